"""The bitmap in pure Python, so simple that a reader believes it at sight.

`ModelBitmap` does all that `IOVABitmap` does, over the caller's memory, with windows, pins and the
same exceptions, and needs no NumPy: `ranges`, `pages`, `to_mask`, `histogram` and `iter_ranges`
give lists, `view` a memoryview. It is what to test a tracker against, or an engine. Every rule of
the manual is in one place here, written as the manual says it and without a thought for speed:
pages are the characters of a text, "0" where they are clean and "1" where they are dirty.

It is not for several threads at once.

>>> from iovabitmap.model import ModelBitmap
>>> bm = ModelBitmap(0, 0x10000)
>>> bm.set(0x1800, 0x1000)
>>> bm.ranges()
[(4096, 8192)]
"""

from ._bitmap import ModelBitmap, ModelDiff, alloc
from ._copies import nbytes_for

__all__ = ["ModelBitmap", "ModelDiff", "alloc", "nbytes_for"]
