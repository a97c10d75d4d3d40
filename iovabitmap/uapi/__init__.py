"""Linux's interfaces for dirty pages, called with a file descriptor and an `IOVABitmap`.

One module for each interface: `iommufd`, `vfio_device`, `vfio_type1`, `kvm`, `pagemap` and
`userfaultfd`. They hold the layouts and the numbers of the kernel's headers, refuse what the kernel
would refuse before it is asked, with an error that names the value and the limit (`RefusedError`),
and only ever add to the bitmap they are given. None of them opens a device: that is the caller's.

Examples
--------
>>> import iovabitmap as ib
>>> from iovabitmap.uapi import iommufd
>>> bm = ib.IOVABitmap(0x1800, 0x2000)
>>> iommufd.get_dirty_bitmap(3, 1, bm)
Traceback (most recent call last):
iovabitmap.uapi.calls.RefusedError: [Errno 22] iova 0x1800 is not a multiple of 0x1000, the IO page
"""

from . import iommufd, kvm, pagemap, userfaultfd, vfio_device, vfio_type1
from .calls import RefusedError

__all__ = [
    "RefusedError",
    "iommufd",
    "kvm",
    "pagemap",
    "userfaultfd",
    "vfio_device",
    "vfio_type1",
]
