"""Recording the process that this is, by a thread of it."""

from __future__ import annotations

import mmap
import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from .._base.geometry import Geometry
from .._core import IOVABitmap, nbytes_for
from ..logs import DirtyLog, LogWriter
from ..sources import ProcessTracker

if TYPE_CHECKING:
    from ..sources import LayoutRow


class OwnRecording:
    """A log of what this process writes, from now on until `finish`."""

    def __init__(self, interval: float) -> None:
        self._tracker = ProcessTracker()
        self._interval = interval
        self._folder = Path(tempfile.mkdtemp(prefix="iovabitmap-"))
        self._done = threading.Event()
        self._remark = ""
        tracker = self._tracker
        geometry = Geometry(tracker.iova, tracker.length, tracker.granularity)
        try:
            # Shared memory, which is not tracked: marking is no write of the cell's.
            bits = mmap.mmap(-1, nbytes_for(geometry.length, geometry.page_size))
            self._bm = IOVABitmap(*geometry, bits)
            self._log = LogWriter(self._folder / "cell.parquet", geometry, source="ProcessTracker")
            self._tracker.start()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        self._last = time.monotonic_ns()
        self._thread = threading.Thread(target=self._run, name="iovabitmap %%dirty", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._done.wait(self._interval):
                self._look()
            self._look()  # by this thread too: another would write memory of its own first
        except Exception as error:  # of a thread nobody sees it
            self._remark = f"the recording ended early: {error}"

    def _look(self) -> None:
        self._tracker.collect(self._bm)
        now = time.monotonic_ns()
        self._log.append(self._bm, self._last, now)
        self._bm.reset()
        self._last = now

    def finish(self) -> tuple[DirtyLog, list[LayoutRow], str]:
        """Ends it with a last look: the log, open for reading, whose file goes when the log does;
        what its addresses stand for; and why it is not whole, or nothing."""
        self._done.set()
        self._thread.join()
        try:
            layout = self._tracker.layout()
            self._log.note("layout", [list(row) for row in layout])
            memory = self._tracker.memory()
            if memory is not None:
                about = {name: value for name, value in memory._asdict().items() if value}
                self._log.note("memory", about)
        finally:
            self._tracker.stop()
        self._log.close()
        log = DirtyLog.open(self._log.path)
        weakref.finalize(log, shutil.rmtree, self._folder, ignore_errors=True)
        return log, layout, self._remark
