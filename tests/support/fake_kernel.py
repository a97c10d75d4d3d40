"""A kernel that remembers each ioctl and answers as told, for interfaces without hardware."""

from __future__ import annotations

import ctypes
import errno
import os

from iovabitmap.uapi import calls


class FakeKernel:
    """Stands in for ioctl: `requests` are (fd, number, the argument's bytes) in order.

    `answer(argument)` may read and change the argument and memory it points to; an `error` is
    raised instead.
    """

    def __init__(self, monkeypatch) -> None:
        self.requests: list[tuple[int, int, bytes]] = []
        self.answer = lambda argument: 0
        self.error = 0
        monkeypatch.setattr(calls.fcntl, "ioctl", self._ioctl)

    def _ioctl(self, fd, request, argument=0):
        content = b"" if isinstance(argument, int) else bytes(argument)
        self.requests.append((fd, request, content))
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return self.answer(argument) or 0

    @property
    def request(self) -> tuple[int, int, bytes]:
        (only,) = self.requests
        return only


def memory_at(address: int, nbytes: int) -> bytearray:
    """The memory itself, as the kernel sees it."""
    return (ctypes.c_ubyte * nbytes).from_address(address)


def can_write(address: int) -> bool:
    """Whether a byte of this process can be written: the kernel is asked, so that none faults."""
    source, sink = os.pipe()
    try:
        os.write(sink, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.read(source, ctypes.c_void_p(address), ctypes.c_size_t(1))
        if done < 0:
            assert ctypes.get_errno() == errno.EFAULT
        return done == 1
    finally:
        os.close(source)
        os.close(sink)
