"""QEMUs with a monitor whose guest writes known pages again and again, and what was written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading

import numpy as np

import iovabitmap as ib
from iovabitmap.qemu import Monitor

from . import guest_program, programs

NBYTES = guest_program.RAM_NBYTES
WORKING_SET = range(40)  # rounds of the guest, written again and again
TRUTH = sorted({page for byte in WORKING_SET for page in guest_program.pages_of(byte)})


def command(image, tmp_path, name, *more, accel="tcg"):
    """QEMU with memory in NAME.ram and a monitor at NAME.qmp."""
    argv = guest_program.command(image, tmp_path / f"{name}.ram", accel)
    return [*argv, "-qmp", f"unix:{tmp_path / name}.qmp,server=on,wait=off", *more]


@contextlib.contextmanager
def running(argv):
    pipes = {**programs.PIPES, "text": False}
    with subprocess.Popen(argv, bufsize=0, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


class Writing:
    """Within `with` the guest writes its working set again and again; `times` is how often it did.
    `stop` ends that after a whole one."""

    def __init__(self, guest) -> None:
        self.times = 0
        self._guest = guest
        self._end = threading.Event()
        self._failures: list[Exception] = []
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        try:
            while not self._end.is_set():
                for byte in WORKING_SET:
                    self._guest.write(byte)
                self.times += 1
        except Exception as error:
            self._failures.append(error)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        assert self._failures == []

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._end.set()
        self._thread.join()


def numbers(bm) -> list[int]:
    """The pages that are dirty, by their numbers, as the guest's program counts them."""
    return np.flatnonzero(bm.to_mask()).tolist()


def pages(source) -> list[int]:
    with ib.IOVABitmap(0, NBYTES) as bm:
        source.collect(bm)
        return numbers(bm)


def connected(process, path) -> Monitor:
    """A Monitor of a QEMU that starts just now."""
    while not path.exists():
        assert process.poll() is None, "QEMU ended"
        os.sched_yield()
    return Monitor(path, timeout=120)
