"""Pictures of bitmaps, logs, curves and predictions. Needs matplotlib: `iovabitmap[plot]`.

Each function draws into `ax`, or into a new figure, returns the axes, and never shows anything. A
part of a picture that stands for many pages is coloured by how many of them are dirty, on a scale
of roots, and white only where none is: a single dirty page can't vanish. Colours are told apart
without seeing red and green, and in grey.
"""

from .figures import (
    BLUE,
    GREY,
    ORANGE,
    bitmap,
    density_map,
    heatmap,
    overview,
    precopy,
    rate,
    volume_curve,
)
from .view import View, view

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "View",
    "bitmap",
    "density_map",
    "heatmap",
    "overview",
    "precopy",
    "rate",
    "view",
    "volume_curve",
]
