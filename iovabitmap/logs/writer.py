"""LogWriter: what makes logs, an epoch after the other. DirtyLog reads them."""

from __future__ import annotations

import os
import platform
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .._base.geometry import Geometry, geometry_of
from .._base.times import nanoseconds
from .._core import IOVABitmap
from .storage import parquet
from .storage.blocks import BLOCK_ROWS, page_runs
from .storage.files import find
from .storage.journal import Journal
from .storage.meta import Meta
from .storage.names import check_free, finished_of, journal_of, put_whole
from .storage.parquet import ParquetLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    import numpy.typing as npt

    from .._base.geometry import HasGeometry
    from .._base.paths import StrPath
    from ..timeline.rows import Addresses

MAX_TIME = 2**63


class LogWriter:
    """A new log, to be written: what a `DirtyLog` reads.

    While it is written the log is one file beside the place of `path`, `PATH.journal`, which only
    grows: a kill loses at most the epoch that is being written, and `DirtyLog.open(path)` opens
    what it leaves. `close` makes `path`, one Parquet file. A writer is for one thread at a time.

    Parameters
    ----------
    path : path
        Where the log is to be. Neither it nor PATH.journal may exist.
    geometry : Geometry, or what has one
        A bitmap, a log, a Timeline: the geometry of the bitmaps to come.
    granularity : int, optional
        Bytes that the source tells apart; by default the page size.
    source, host, command
        What records, where (by default this host's name), and what is recorded.
    notes : dict, optional
        Anything else worth keeping, as JSON knows it; `note` adds to it later.

    Attributes
    ----------
    path : pathlib.Path
    geometry : Geometry
    notes : dict
        As they are by now. A copy.

    Raises
    ------
    FileExistsError
        There is something at `path`, or a log is being written, or was killed, there.
    TypeError, ValueError
        What is not a valid geometry.
    ImportError
        Without pyarrow.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> bm = ib.IOVABitmap(0, 1 << 20)
    >>> with ib.LogWriter("run.parquet", bm) as log:  # doctest: +SKIP
    ...     log.append(bm, t_start_ns=0, t_end_ns=100_000_000)
    """

    def __init__(
        self,
        path: StrPath,
        geometry: HasGeometry,
        *,
        granularity: int | None = None,
        source: str = "",
        host: str | None = None,
        command: str | list[str] | None = None,
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._ended = ""  # how; "" while it is written
        self.geometry = _checked(geometry)
        now = datetime.now().astimezone()
        meta = Meta(
            **self.geometry._asdict(),
            granularity=self.geometry.page_size if granularity is None else granularity,
            source=source,
            host=platform.node() if host is None else host,
            command=command,
            started=now.isoformat(timespec="microseconds"),
            started_unix_ns=time.time_ns(),
            started_monotonic_ns=time.monotonic_ns(),
            notes=dict(notes or {}),
        )
        check_free(self.path)
        self._journal = Journal.create(journal_of(self.path), meta)

    def append(self, bm: IOVABitmap, t_start_ns: int, t_end_ns: int) -> None:
        """Adds an epoch: the dirty ranges of `bm`, whose geometry is the log's.

        When this returns, a kill of the process cannot lose the epoch. After an exception (a full
        disk, Ctrl-C) nothing of it is in the log, and the log can be used as before.

        Raises
        ------
        TypeError
            For times that are not integers, as seconds that were given by mistake.
        ValueError
            For another geometry; if `t_end_ns` is before `t_start_ns`, or that before the start
            of the epoch before; for a log that was closed.
        """
        other = geometry_of(bm)
        if self.geometry != other:
            raise ValueError(f"the log is of {self.geometry}, the bitmap of {other}")
        self._append(bm.iter_ranges(batch=BLOCK_ROWS), t_start_ns, t_end_ns)

    def append_ranges(self, ranges: npt.ArrayLike, t_start_ns: int, t_end_ns: int) -> None:
        """Adds an epoch in which the pages that `ranges` touch were dirty: rows (iova, length) of
        integers in any order, shape (n, 2). Errors are those of `append`, TypeError for rows that
        are not integers, and ValueError for one that is not inside the log's range."""
        self._append([page_runs(ranges, self._journal.meta)], t_start_ns, t_end_ns)

    def _append(self, batches: Iterable[Addresses], t_start_ns: int, t_end_ns: int) -> None:
        self._check_open()
        start, end = nanoseconds("t_start_ns", t_start_ns), nanoseconds("t_end_ns", t_end_ns)
        if not -MAX_TIME <= start <= end < MAX_TIME:
            raise ValueError(
                f"an epoch from {start} to {end} ns: times must not go back, and be from "
                f"{-MAX_TIME} to {MAX_TIME - 1}"
            )
        last = self._journal.last_start_ns
        if last is not None and start < last:
            raise ValueError(f"an epoch from {start} ns, before the last one's start at {last}")
        self._journal.append(batches, start, end)

    def note(self, name: str, value: Any) -> None:
        """Adds `value` to the log's notes, or replaces the one of that name."""
        self._check_open()
        self._journal.note(self._journal.meta.noting(name, value))

    def _check_open(self) -> None:
        if self._ended:
            raise ValueError(f"{self.path}: the log is {self._ended}")

    def close(self, progress: Callable[[int], object] | None = None) -> None:
        """Makes the log one file at `path`, which appears there in one step. Safe to repeat.

        If this fails or is interrupted, the journal is there as before: more can be appended, and
        `close` tried again, or `LogWriter.finish` later. `progress` is called with the number of
        epochs done.

        Raises
        ------
        FileExistsError
            Something else came to `path` meanwhile. It is not touched.
        OSError
            The system's, as for a full disk.
        """
        if not self._ended:
            _seal(self._journal, self.path, progress)
            self._end("closed")

    def abort(self) -> None:
        """Lets go of the log as it is: unfinished, in PATH.journal. Safe to repeat."""
        if not self._ended:
            self._end("aborted")

    def discard(self) -> None:
        """Removes what was written: for a recording that never began. A log that was closed or
        aborted stays."""
        if not self._ended:
            self._journal.path.unlink(missing_ok=True)
            self._end("discarded")

    def _end(self, how: str) -> None:
        self._ended = how
        self._journal.close()

    @staticmethod
    def finish(path: StrPath, *, progress: Callable[[int], object] | None = None) -> Path:
        """Makes one file of what a killed recording left, as `close` would have done: where it is.

        `path` is that of the log, or of its journal. Of a finished log nothing is to be done, but
        to remove a journal that a kill left beside it.

        Raises
        ------
        FileNotFoundError
            There is neither the log nor its journal.
        LogError
            That is damaged, or is still being written.
        FileExistsError
            Something else is at the place of the finished log.
        """
        path = Path(path)
        found, is_journal = find(path)
        if not is_journal:
            ParquetLog(found).close()
            if not journal_of(path).exists():
                return path
            found = journal_of(path)
        target = finished_of(found)
        journal = Journal.open(found)
        try:
            if not journal.lock():
                raise journal.error("it is still being written")
            _seal(journal, target, progress)
        finally:
            journal.close()
        return target

    @property
    def notes(self) -> dict[str, Any]:
        """What was noted by now. A copy."""
        return dict(self._journal.meta.notes)

    def __len__(self) -> int:
        """Epochs that were written."""
        return len(self._journal)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the log; after an exception it stays unfinished."""
        try:
            if exc_type is None:
                self.close()
        finally:
            self.abort()

    def __repr__(self) -> str:
        start, end = self.geometry.iova, self.geometry.end
        state = self._ended or "writing"
        return f"<LogWriter {self.path} {start:#x}-{end:#x}, {len(self)} epochs, {state}>"


def _checked(geometry: HasGeometry) -> Geometry:
    try:
        return geometry_of(geometry)
    except AttributeError:
        raise TypeError(
            "geometry must be a Geometry, or have iova, length and page_size as a bitmap has, not "
            f"{geometry!r}"
        ) from None


def _seal(journal: Journal, target: Path, progress: Callable[[int], object] | None) -> None:
    """Makes `target` of a journal that is locked, and removes the journal then.

    At each instant one of the two is there, whole. If `target` is there already, it may be this
    recording, by a kill or Ctrl-C before the journal was removed.
    """
    if journal.path == target or not os.path.lexists(target) or _more_than(journal, target):
        put_whole(
            target,
            lambda part: parquet.write(
                part, journal.meta, journal.blocks(0, len(journal)), progress
            ),
        )
    if journal.path != target:
        journal.path.unlink(missing_ok=True)


def _more_than(journal: Journal, path: Path) -> bool:
    """Whether a journal holds more than the finished log of the same recording at `path`; raises
    FileExistsError if that is not of it."""
    if path.is_file():
        made = None
        try:
            made = ParquetLog(path)
            meta, count = made.meta, len(made)
            if meta.is_of(journal.meta) and count <= len(journal):
                return count < len(journal) or meta != journal.meta
        except ValueError:  # a LogError: not a log
            pass
        finally:
            if made is not None:
                made.close()
    raise FileExistsError(f"{path} exists, and is not what is in {journal.path}, which is kept")
