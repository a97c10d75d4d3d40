"""Recording the process that this is, into a log that goes when nobody has it any more."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from ..logs import DirtyLog
from ..sources import ProcessTracker
from .recording import record

if TYPE_CHECKING:
    from ..sources import LayoutRow


class OwnRecording:
    """A log of what this process writes, from now on until `finish`."""

    def __init__(self, interval: float) -> None:
        self._tracker = ProcessTracker()
        self._folder = Path(tempfile.mkdtemp(prefix="iovabitmap-"))
        try:
            path = self._folder / "cell.parquet"
            self._recording = record(self._tracker, path, interval=interval).__enter__()
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def finish(self) -> tuple[DirtyLog, list[LayoutRow], str]:
        """Ends it with a last look: the log, open for reading, whose file goes when the log does;
        what its addresses stand for; and why it is not whole, or nothing."""
        remark = ""
        try:
            self._recording.__exit__(None, None, None)
        except Exception as error:
            remark = f"the recording ended early: {error}"
            if not self._recording.recorder.tally.epochs:
                shutil.rmtree(self._folder)
                raise
        log = DirtyLog.open(self._recording.path)
        weakref.finalize(log, shutil.rmtree, self._folder, ignore_errors=True)
        return log, self._tracker.layout(), remark
