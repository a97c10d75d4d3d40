"""What a log of dirty pages says: rates, working sets, and whether a migration would converge.

Each function takes a `Timeline`, which a `DirtyLog` and every part of one is, or what becomes one:
a bitmap, or rows (bitmap, t_start_ns, t_end_ns). Times are seconds, sizes bytes, bandwidths bytes
per second; `units` has helpers for others.
"""

from .curves import ConstantCurve, SaturatingCurve, VolumeCurve, fit_saturating, uniform_volume
from .measured import volume_curve
from .precopy import (
    Prediction,
    Round,
    estimate_downtime,
    plateau,
    precopy_table,
    predict_precopy,
    replay_precopy,
    smoothed,
    stalled,
)
from .rates import (
    DirtyRate,
    amplification,
    dirty_rate,
    expected_amplification,
    hot_ranges,
    reuse,
    sampling_error,
)
from .units import GIB, KIB, MIB, gbit_per_s, mbit_per_s, mib_per_s
from .working_sets import WorkingSet, working_set

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "ConstantCurve",
    "DirtyRate",
    "Prediction",
    "Round",
    "SaturatingCurve",
    "VolumeCurve",
    "WorkingSet",
    "amplification",
    "dirty_rate",
    "estimate_downtime",
    "expected_amplification",
    "fit_saturating",
    "gbit_per_s",
    "hot_ranges",
    "mbit_per_s",
    "mib_per_s",
    "plateau",
    "precopy_table",
    "predict_precopy",
    "replay_precopy",
    "reuse",
    "sampling_error",
    "smoothed",
    "stalled",
    "uniform_volume",
    "volume_curve",
    "working_set",
]
