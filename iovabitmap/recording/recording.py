"""record(): what a source sees, into a log."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .._base.geometry import Geometry
from ..logs import LogWriter
from .life import Life
from .recorder import Recorder
from .schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._base.paths import StrPath
    from ..sources import Source

MIN_INTERVAL = 0.001  # seconds; what waiting is exact to
MAX_SECONDS = 2.0**63 / 1e9


def record(
    source: Source,
    path: StrPath,
    *,
    interval: float = 0.1,
    duration: float | None = None,
    on_epoch: Callable[[Recording], object] | None = None,
    max_overhead: float | None = None,
) -> Recording:
    """Records what a source sees into a new log: with `with`, or `.run()`.

    Nothing is begun before. The source is then started, and stopped at the end. With `with`, a
    thread records until the end of the block; an exception in the block leaves a log that says it
    is unfinished.

    Parameters
    ----------
    source : Source
        Of `iovabitmap.sources`, or one of your own.
    path : path
        Where the log is to be: there must be nothing.
    interval : float
        Length of an epoch in seconds, at least 0.001.
    duration : float, optional
        Record no longer, in seconds.
    on_epoch : callable, optional
        Called with the `Recording` after each epoch, in the thread that records.
    max_overhead : float, optional
        The part of the time that collecting may take, above 0 and at most 1: if it takes longer,
        epochs become longer.

    Raises
    ------
    TypeError
        What is not a source.
    ValueError
        An argument out of its limits.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> from iovabitmap.sources import CommandTracker, ProcessTracker
    >>> ib.record(CommandTracker(["sort", "big.txt"]), "sort.parquet").run()  # doctest: +SKIP
    >>> with ib.record(ProcessTracker(), "own.parquet", interval=0.02):  # doctest: +SKIP
    ...     work()
    """
    return Recording(source, path, interval, duration, on_epoch, max_overhead)


class Recording:
    """What `record` gives: a recording to be, that is going on, or that has ended. It is made once.

    Attributes
    ----------
    path : pathlib.Path
        Of the log.
    source : Source
    recorder : Recorder
        Once it was begun: the `tally` of epochs and pages, the `bitmap` of the last epoch, what is
        `untracked`, and how many moments the `schedule` missed.
    """

    def __init__(
        self,
        source: Source,
        path: StrPath,
        interval: float,
        duration: float | None,
        on_epoch: Callable[[Recording], object] | None,
        max_overhead: float | None,
    ) -> None:
        for name in ("start", "stop", "collect", "layout", "untracked"):
            if not hasattr(source, name):
                raise TypeError(f"source must be a Source, which {source!r} is not: no {name}")
        self.source = source
        self.path = Path(path)
        self._interval_ns = _nanoseconds("interval", interval, MIN_INTERVAL)
        self._duration_ns = None if duration is None else _nanoseconds("duration", duration, 1e-9)
        self._on_epoch = on_epoch
        self._max_overhead = 1.0 if max_overhead is None else max_overhead
        Schedule(0, 1, self._max_overhead)  # raises for what is out of its limits
        self._recorder: Recorder | None = None
        self._writer: LogWriter | None = None
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._going = False  # or has ended
        self._unfinished = False  # the block that it recorded was left by an exception

    @property
    def recorder(self) -> Recorder:
        """RuntimeError before it was begun."""
        if self._recorder is None:
            raise RuntimeError(f"the recording of {self.path} was not begun")
        return self._recorder

    def begin(self, start: Callable[[], object] | None = None) -> None:
        """Makes the log, and starts the source: by `start`, or by its own. To be followed by `run`.

        If that fails no log is left. Raises FileExistsError: there is something at the path;
        RuntimeError: it was begun before; and what starting raises.
        """
        if self._writer is not None:
            raise self._begun_already()
        geometry = Geometry(self.source.iova, self.source.length, self.source.granularity)
        self._writer = LogWriter(
            self.path,
            geometry,
            source=type(self.source).__name__,
            command=getattr(self.source, "argv", None),
            notes={"interval_ns": self._interval_ns},
        )
        try:
            start_ns = time.monotonic_ns()
            (start or self.source.start)()
            schedule = Schedule(start_ns, self._interval_ns, self._max_overhead)
            self._recorder = Recorder(self.source, self._writer, schedule)
        except BaseException:
            self._abort()
            raise

    def run(self, over: Callable[[int], bool] | None = None) -> Self:
        """Records in this thread, until the source's program ends, after `duration`, after `end()`,
        or until `over` says so; then ends the recording.

        `over` waits until a moment, or less: an int, nanoseconds of CLOCK_MONOTONIC.

        After an exception, also Ctrl-C, the log is there as far as it was recorded, and unfinished;
        if nothing was recorded, none is left.

        Raises
        ------
        OSError, ValueError
            Those of the source and of the log.
        """
        if self._writer is None:
            self.begin()
        elif self._going:
            raise self._begun_already()
        self._going = True
        with contextlib.ExitStack() as stack:
            process = getattr(self.source, "process", None)
            if over is None and process is not None:
                life = Life(process.pid)
                stack.callback(life.close)
                over = life.over
            self._record(over or self._wait)
        return self

    def _begun_already(self) -> RuntimeError:
        return RuntimeError(f"the recording of {self.path} was begun already")

    def end(self) -> None:
        """Asks `run` to end after one more epoch: from `on_epoch`, or another thread."""
        self._done.set()

    def _wait(self, until_ns: int) -> bool:
        return self._done.wait(max(0.0, (until_ns - time.monotonic_ns()) / 1e9))

    def _record(self, over: Callable[[int], bool]) -> None:
        assert self._recorder is not None and self._writer is not None
        stop = None
        if self._duration_ns is not None:
            stop = self._recorder.schedule.start_ns + self._duration_ns
        try:
            self._recorder.run(
                lambda until: self._done.is_set() or over(until) or self._done.is_set(),
                stop,
                self._told,
            )
            self.source.stop()
            self._writer.abort() if self._unfinished else self._writer.close()
        except BaseException:
            self._abort()
            raise

    def _told(self) -> None:
        if self._on_epoch is not None:
            self._on_epoch(self)

    def _abort(self) -> None:
        """Keeps what there is."""
        assert self._writer is not None
        if len(self._writer):
            self._writer.abort()
        else:
            self._writer.discard()
        self.source.stop()

    def __enter__(self) -> Self:
        """Begins, and records in a thread until the end of the block."""
        self.begin()
        self._going = True
        self._thread = threading.Thread(target=self._run, name="iovabitmap record", daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self._record(self._wait)
        except BaseException as error:  # of a thread nobody sees it
            self._error = error

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the last epoch, and ends. After an exception in the block the log is unfinished;
        what went wrong with the recording itself is raised, if nothing else was."""
        assert self._thread is not None
        self._unfinished = exc_type is not None
        self._done.set()
        self._thread.join()
        if self._error is not None and exc_type is None:
            raise self._error

    def __repr__(self) -> str:
        epochs = "not begun" if self._recorder is None else f"{self._recorder.tally.epochs} epochs"
        return f"<Recording of {type(self.source).__name__} to {self.path}, {epochs}>"


def _nanoseconds(name: str, seconds: float, least: float) -> int:
    if not least <= seconds < MAX_SECONDS:
        raise ValueError(f"{name} must be at least {least:g} seconds, not {seconds!r}")
    return round(seconds * 1e9)
