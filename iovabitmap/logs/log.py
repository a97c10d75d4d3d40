"""DirtyLog: what users of logs see. How logs are stored is in the files beside this."""

from __future__ import annotations

import platform
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .._base import html
from .._base.geometry import Geometry, geometry_of
from .._base.times import nanoseconds
from .._core import IOVABitmap
from ..timeline import Timeline, mapped, notebook
from .epochs import Epochs
from .errors import LogError
from .layout import memory, regions
from .storage import parquet
from .storage.blocks import BLOCK_ROWS, page_runs
from .storage.journal import Journal
from .storage.meta import Meta
from .storage.parquet import ParquetLog
from .storage.replace import aside, replace_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    import numpy.typing as npt

    from .._base.paths import StrPath
    from ..timeline import Memory, Region
    from ..timeline.rows import Addresses

MAX_TIME = 2**63
SHOWN_ROWS = 1 << 19  # a larger log is not read to be shown in a notebook


class DirtyLog(Timeline):
    """A Timeline in a file: the dirty ranges of many epochs.

    `DirtyLog.create` starts one to append to, `DirtyLog.open` reads one. All that a Timeline does
    it does too: ``log[i]`` is an `Epoch`, ``log[i:j]`` a Timeline. They read the log, which must
    still be open. What is damaged in the file is a LogError, whatever reads it.

    Attributes
    ----------
    path : pathlib.Path
    granularity : int
        Bytes that the source really tells apart; larger than the page size where it tracks blocks.
    source, host : str
        What recorded it, and where.
    command : str, list of str or None
        What was recorded.
    started : str
        Wall-clock time of the start, ISO 8601.
    notes : dict
        Anything else that the recorder said, as JSON knows it.
    unfinished : str
        Empty for a log that was closed; else what is to be known about one that was not.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> with ib.DirtyLog.create("run.parquet", 0, 1 << 20, 4096) as log:  # doctest: +SKIP
    ...     log.append(bm, t_start_ns=0, t_end_ns=100_000_000)
    >>> with ib.DirtyLog.open("run.parquet") as log:  # doctest: +SKIP
    ...     log[:10].union().count()
    """

    def __init__(self, path: Path, store: Journal | ParquetLog, *, writing: bool) -> None:
        self.path = path
        self._writing = writing
        self._epochs = Epochs(path, store)
        super().__init__(self._epochs, Geometry(*store.meta.geometry))

    # --- making -------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: StrPath,
        iova: int,
        length: int,
        page_size: int,
        *,
        granularity: int | None = None,
        source: str = "",
        host: str | None = None,
        command: str | list[str] | None = None,
        notes: dict[str, Any] | None = None,
    ) -> Self:
        """A new log to append to. While it is written, `path` is a folder; `close` makes it a file.

        Parameters
        ----------
        path : path
            Must not exist.
        iova, length, page_size : int
            The geometry of the bitmaps to come, in bytes.
        granularity : int, optional
            Bytes that the source tells apart; by default the page size.
        source, host, command
            What records, where (by default this host's name), and what is recorded.
        notes : dict, optional
            Anything else worth keeping, as JSON knows it; `note` adds to it later.

        Raises
        ------
        FileExistsError
            Where there is something at `path`.
        ValueError
            For a geometry that is none.
        ImportError
            Without pyarrow.
        """
        now = datetime.now().astimezone()
        meta = Meta(
            iova=iova,
            length=length,
            page_size=page_size,
            granularity=page_size if granularity is None else granularity,
            source=source,
            host=platform.node() if host is None else host,
            command=command,
            started=now.isoformat(timespec="microseconds"),
            started_unix_ns=time.time_ns(),
            started_monotonic_ns=time.monotonic_ns(),
            notes=dict(notes or {}),
        )
        return cls._create(path, meta)

    @classmethod
    def _create(cls, path: StrPath, meta: Meta) -> Self:
        path = Path(path)
        return cls(path, Journal.create(path, meta), writing=True)

    @classmethod
    def open(cls, path: StrPath, *, salvage: bool = False) -> Self:
        """A log to read, finished or not.

        Of one whose recording was killed, all epochs but at most the last are there, and
        `unfinished` says so. With `salvage`, a journal that is damaged (which a kill does not do,
        but a power failure may) is read up to the damage.

        Raises
        ------
        FileNotFoundError
            Where there is nothing at `path`.
        LogError
            For what is no log, or a damaged one.
        ImportError
            Without pyarrow.
        """
        path = Path(path)
        found = path
        if not path.exists() and aside(path).is_dir():
            found = aside(path)  # killed in the instant between two renames
        if found.exists() and not (found.is_dir() or found.is_file()):  # a FIFO would be waited for
            raise LogError(path, "no log: neither a file nor a folder")
        store: Journal | ParquetLog
        store = Journal.open(found, salvage=salvage) if found.is_dir() else ParquetLog(found)
        return cls(path, store, writing=False)

    @classmethod
    def finish(cls, path: StrPath, *, progress: Callable[[int], object] | None = None) -> None:
        """Makes one file of what a killed recording left at `path`, as `close` would have done.

        Raises
        ------
        LogError
            Where that is damaged, or is still being written.
        """
        with cls.open(path) as log:
            if isinstance(log._file, Journal):
                if not log._file.lock():
                    raise LogError(path, "it is still being written")
                log._seal(progress)

    # --- writing ------------------------------------------------------------------------------

    def append(self, bm: IOVABitmap, t_start_ns: int, t_end_ns: int) -> None:
        """Adds an epoch: the dirty ranges of `bm`, whose geometry is the log's.

        When this returns, a kill of the process cannot lose the epoch. After an exception (a full
        disk, Ctrl-C) nothing of it is in the log, and the log can be used as before.

        Raises
        ------
        TypeError
            For times that are not integers, as seconds that were given by mistake.
        ValueError
            For another geometry; where `t_end_ns` is before `t_start_ns`, or that before the start
            of the epoch before; for a log that is not being written.
        """
        mine, other = self.geometry, geometry_of(bm)
        if mine != other:
            raise ValueError(f"the log is of {mine}, the bitmap of {other}")
        self._append(bm.iter_ranges(batch=BLOCK_ROWS), t_start_ns, t_end_ns)

    def append_ranges(self, ranges: npt.ArrayLike, t_start_ns: int, t_end_ns: int) -> None:
        """Adds an epoch in which the pages that `ranges` touch were dirty: rows (iova, length) of
        integers in any order, shape (n, 2). Errors are those of `append`, TypeError for rows that
        are not integers, and ValueError for one that is not inside the log's range."""
        self._append([page_runs(ranges, self._meta)], t_start_ns, t_end_ns)

    def _append(self, batches: Iterable[Addresses], t_start_ns: int, t_end_ns: int) -> None:
        journal = self._journal()
        start, end = nanoseconds("t_start_ns", t_start_ns), nanoseconds("t_end_ns", t_end_ns)
        if not -MAX_TIME <= start <= end < MAX_TIME:
            raise ValueError(
                f"an epoch from {start} to {end} ns: times must not go back, and be from "
                f"{-MAX_TIME} to {MAX_TIME - 1}"
            )
        if journal.last_start_ns is not None and start < journal.last_start_ns:
            raise ValueError(
                f"an epoch from {start} ns, before the last one's start at {journal.last_start_ns}"
            )
        journal.append(batches, start, end)

    def note(self, name: str, value: Any) -> None:
        """Adds `value` to the log's notes, or replaces the one of that name."""
        self._journal().note(self._meta.noting(name, value))

    def _journal(self) -> Journal:
        """What is being written; ValueError where nothing is."""
        self._epochs.check_open()
        if not self._writing or not isinstance(self._file, Journal):
            raise ValueError(f"{self.path}: this log is open for reading only")
        return self._file

    def close(self, *, progress: Callable[[int], object] | None = None) -> None:
        """Ends writing: makes the folder one file, in one step for whoever looks. Safe to repeat;
        of a log that was only read, it lets go of the file.

        Where this fails or is interrupted, the folder is there as before, and can be opened;
        `close` and `finish` can be tried again. `progress` is called with the number of epochs
        done.
        """
        if not self._epochs.closed:
            if self._writing:
                self._seal(progress)
            self._epochs.close()

    def _seal(self, progress: Callable[[int], object] | None) -> None:
        journal = self._file
        finished = self.path.with_name(self.path.name + ".closing")
        try:
            parquet.write(finished, journal.meta, journal.blocks(0, len(journal)), progress)
            folder = journal.path
            if folder == self.path:
                replace_folder(folder, finished)
            else:  # it stood aside: its name is free
                finished.rename(self.path)
                shutil.rmtree(folder)
        except BaseException:
            if finished.is_file():
                finished.unlink()
            raise

    def abandon(self) -> None:
        """Lets go of the log as it is: of one that is written, the folder stays. Safe to repeat."""
        self._epochs.close()

    def save(self, path: StrPath, *, progress: Callable[[int], object] | None = None) -> None:
        """Writes this log as one Parquet file to `path`, which appears there whole or not at all.

        Raises
        ------
        FileExistsError
            Where there is something at `path`.
        LogError
            Where this log is damaged.
        """
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists")
        part = path.with_name(path.name + ".closing")
        try:
            meta = (
                self._meta
                if not self.unfinished
                else self._meta.noting("unfinished", self.unfinished)
            )
            parquet.write(part, meta, self._epochs.blocks(0, len(self)), progress)
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.absolute().parent)

    def __enter__(self) -> Self:
        self._epochs.check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- about --------------------------------------------------------------------------------

    @property
    def _file(self) -> Journal | ParquetLog:
        return self._epochs.file

    @property
    def _meta(self) -> Meta:
        return self._file.meta

    @property
    def title(self) -> str:
        """What recorded it, or the name of its file."""
        return self.source or self.path.name

    @property
    def memory(self) -> Memory | None:
        """How much memory was recorded, as the recorder noted it last, else as much as the layout
        maps; None if neither is known."""
        return memory(self._meta) or mapped(self.layout)

    @property
    def layout(self) -> Sequence[Region]:
        """What the addresses are, as the recorder noted it last; empty if it did not."""
        return regions(self._meta)

    @property
    def unfinished(self) -> str:
        """Empty, or why the log is not whole."""
        return self._file.unfinished

    @property
    def granularity(self) -> int:
        """Bytes that the source tells apart."""
        return self._meta.granularity

    @property
    def source(self) -> str:
        """What recorded the log."""
        return self._meta.source

    @property
    def host(self) -> str:
        """Where it was recorded."""
        return self._meta.host

    @property
    def command(self) -> str | list[str] | None:
        """What was recorded."""
        return self._meta.command

    @property
    def started(self) -> str:
        """Wall-clock time of the start, ISO 8601."""
        return self._meta.started

    @property
    def notes(self) -> dict[str, Any]:
        """Whatever else the recorder said. A copy."""
        return dict(self._meta.notes)

    @property
    def _nrows(self) -> int | None:
        """Rows in the file; None of a journal, which would have to be read for that."""
        return self._file.nrows if isinstance(self._file, ParquetLog) else None

    def __repr__(self) -> str:
        state = "closed" if self._epochs.closed else "writing" if self._writing else "reading"
        end = self.iova + self.length
        return f"<DirtyLog {self.path} {self.iova:#x}-{end:#x}, {len(self)} epochs, {state}>"

    @html.never_raising
    def _repr_html_(self) -> str:
        facts = [
            ("file", str(self.path)),
            *notebook.facts(self),
            ("source", self.source),
            ("unfinished", self.unfinished),
            ("state", "closed" if self._epochs.closed else ""),
        ]
        drawn = [] if self._epochs.closed else self._pictures()
        return html.piece(self, [fact for fact in facts if fact[1]], *drawn)

    def _pictures(self) -> list[str]:
        small = self._nrows is not None and self._nrows <= SHOWN_ROWS
        return super()._pictures() if small else []
