"""DirtyLog: what users of logs see. How logs are stored is in the files beside this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .._base import html
from .._base.geometry import Geometry
from ..timeline import Timeline, mapped, notebook
from .epochs import Epochs
from .layout import memory, regions
from .storage import parquet
from .storage.files import open_log
from .storage.names import check_free, put_whole
from .storage.parquet import ParquetLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from .._base.paths import StrPath
    from ..timeline import Memory, Region
    from .storage.journal import Journal
    from .storage.meta import Meta

SHOWN_ROWS = 1 << 19  # a larger log is not read to be shown in a notebook


class DirtyLog(Timeline):
    """A Timeline in a file: the dirty ranges of many epochs.

    `DirtyLog.open` reads one, a `LogWriter` writes one. All that a Timeline does a log does too:
    ``log[i]`` is an `Epoch`, ``log[i:j]`` a Timeline. They read the log, which must still be open.
    What is damaged in the file is a LogError, whatever reads it.

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
    >>> with ib.DirtyLog.open("run.parquet") as log:  # doctest: +SKIP
    ...     log[:10].union().count()
    """

    def __init__(self, path: Path, store: Journal | ParquetLog) -> None:
        self.path = path
        self._epochs = Epochs(path, store)
        super().__init__(self._epochs, Geometry(*store.meta.geometry))

    @classmethod
    def open(cls, path: StrPath, *, salvage: bool = False) -> Self:
        """A log to read, finished or not.

        Of one whose recording goes on, or was killed, what is in its journal, `PATH.journal`, is
        read: all epochs but at most the last are there, and `unfinished` says so. The path may be
        that of the journal too. With `salvage`, a journal that is damaged (which a kill does not
        do, but a power failure may) is read up to the damage.

        Raises
        ------
        FileNotFoundError
            There is neither `path` nor its journal.
        LogError
            What is there is not a log, or a damaged one.
        ImportError
            Without pyarrow.
        """
        path = Path(path)
        return cls(path, open_log(path, salvage))

    def close(self) -> None:
        """Lets go of the file. Safe to repeat."""
        self._epochs.close()

    def save(self, path: StrPath, *, progress: Callable[[int], object] | None = None) -> None:
        """Writes this log as one Parquet file to `path`, which appears there whole or not at all.

        Raises
        ------
        FileExistsError
            There is something at `path`, or a log is being written there.
        LogError
            This log is damaged.
        """
        path = Path(path)
        check_free(path)
        meta = self._meta
        if self.unfinished:
            meta = meta.noting("unfinished", self.unfinished)
        blocks = self._epochs.blocks(0, len(self))
        put_whole(path, lambda part: parquet.write(part, meta, blocks, progress))

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
        state = "closed" if self._epochs.closed else "open"
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
