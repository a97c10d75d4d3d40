"""Fleet: what users of many logs see. Where they are and what one is asked is beside this."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from .._base.optional import need
from .._base.text import show_bytes, show_seconds
from ..analysis import MIB, VolumeCurve, plateau, predict_precopy
from ..analysis.curves import check_memory
from ..analysis.precopy import PAGE_HEADER
from . import _questions as questions
from ._frames import frame, kinds
from ._places import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._base.paths import StrPath
    from ._questions import Question, Row


@dataclass(frozen=True)
class FleetRate:
    """The dirty rate of a fleet: the sum of the rates of its logs.

    A rate belongs to its interval, and each log has its own: they are from `shortest_seconds` to
    `longest_seconds` long. The closer those are, the more the sum means.

    Attributes
    ----------
    logs : int
        How many were added up.
    nbytes : int
        Bytes of distinct pages, of all logs.
    bytes_per_s : float
    shortest_seconds, longest_seconds : float
        0 where no log was added.
    missing : tuple of str
        Names of the logs that gave no rate, and are not in the sum.

    Examples
    --------
    >>> FleetRate(2, 300 << 20, 30.0 * 2**20, 10.0, 10.0, ("c.parquet",))
    FleetRate(30 MiB/s: 300 MiB of 2 logs within 10 s; without 1 log: c.parquet)
    """

    logs: int
    nbytes: int
    bytes_per_s: float
    shortest_seconds: float
    longest_seconds: float
    missing: tuple[str, ...]

    @property
    def mib_per_s(self) -> float:
        """The same in MiB per second."""
        return self.bytes_per_s / MIB

    def __repr__(self) -> str:
        shortest, longest = show_seconds(self.shortest_seconds), show_seconds(self.longest_seconds)
        within = longest if shortest == longest else f"{shortest} to {longest}"
        text = f"{show_bytes(self.bytes_per_s)}/s: {show_bytes(self.nbytes)} of "
        text += f"{_logs(self.logs)} within {within}"
        if self.missing:
            more = ", ..." if len(self.missing) > 3 else ""
            text += f"; without {_logs(len(self.missing))}: {', '.join(self.missing[:3])}{more}"
        return f"FleetRate({text})"


def _memory(memory_bytes: float | None, zero_bytes: float | None) -> dict[str, float | None]:
    """As arguments of a question; ValueError for what no machine has."""
    check_memory(memory_bytes, zero_bytes or 0, "memory_bytes")
    return {"memory_bytes": memory_bytes, "zero_bytes": zero_bytes}


def _logs(number: int) -> str:
    return f"{number} log" if number == 1 else f"{number} logs"


class Fleet:
    """The dirty logs of many machines: `iovabitmap.fleet.open` makes one.

    Each method asks every log, in tasks of Dask, and returns a pandas data frame: a row for each
    log, whose index `log` is its name, with units in the names of columns. Besides its answer each
    has the columns

    * `host`: where it was recorded;
    * `unfinished`: empty, or what is to be known about a log that was not closed;
    * `error`: empty, or why there is no answer: damaged, unreadable, without epochs. The other
      columns are then missing.

    Epochs i <= n < j are those of each log, as a slice takes them. Nothing is kept: each call reads
    the logs again.

    Attributes
    ----------
    path : str
        The folder or URL.
    logs : list of str
        Names of the logs, relative to `path`, sorted.
    others : list of str
        Files that were taken for no log.
    """

    def __init__(self, place: Place, pattern: str, logs_per_task: int) -> None:
        if logs_per_task < 1:
            raise ValueError(f"logs_per_task must be 1 or more, not {logs_per_task}")
        self._place, self._logs_per_task = place, logs_per_task
        self.path = place.path
        self.logs, self.others = place.names(pattern)

    def map(self, question: Question) -> Any:
        """Asks each log a question of yours: ``question(log)`` gets an open `DirtyLog` and returns
        a dict, which becomes the log's row.

        It runs in the workers. OSError, ValueError, ArithmeticError and MemoryError are about the
        log, and go into its `error`; any other exception is raised.

        Examples
        --------
        >>> import iovabitmap.analysis as an
        >>> fleet.map(  # doctest: +SKIP
        ...     lambda log: {"bytes_within_1_s": an.volume_curve(log)(1.0)}
        ... )
        """
        return self._ask(question)

    def about(self) -> Any:
        """What each log says about itself: the columns `source`, `started` (ISO 8601), `epochs`,
        `iova`, `length_bytes` and `page_size_bytes`. Reads no rows."""
        return self._ask(questions.about, questions.ABOUT)

    def rates(self, *, epochs: slice = slice(None)) -> Any:
        """`iovabitmap.analysis.dirty_rate` of each log: the columns `pages`, `page_size_bytes`,
        `seconds`, `bytes_per_s` and `mib_per_s`."""
        return self._ask(partial(questions.rate, epochs=epochs), questions.RATE)

    def total_rate(self, *, epochs: slice = slice(None)) -> FleetRate:
        """The dirty rate of the whole fleet, and what is missing in it. See `FleetRate`."""
        found = self.rates(epochs=epochs)
        good = found[found["error"] == ""]
        pages, sizes = good["pages"].tolist(), good["page_size_bytes"].tolist()
        seconds = good["seconds"].tolist()
        return FleetRate(
            logs=len(good),
            nbytes=sum(p * s for p, s in zip(pages, sizes, strict=True)),
            bytes_per_s=math.fsum(good["bytes_per_s"].tolist()),
            shortest_seconds=min(seconds, default=0.0),
            longest_seconds=max(seconds, default=0.0),
            missing=tuple(found.index[found["error"] != ""].tolist()),
        )

    def working_sets(
        self,
        *,
        epochs: slice = slice(None),
        at_least: float = 0.5,
        bandwidth: float = 1.25e9,
        memory_bytes: float | None = None,
        zero_bytes: float | None = None,
    ) -> Any:
        """`iovabitmap.analysis.working_set` of each log, in its three forms: the columns
        `union_bytes`, `hot_bytes`, `plateau_bytes` and `seconds`.

        Parameters
        ----------
        epochs : slice
            Those of each log that are taken, as of ``log[epochs]``; by default all.
        at_least : float
            The part of the epochs in which a hot page is dirty: above 0, at most 1.
        bandwidth : float
            Of the plateau, in bytes per second.
        memory_bytes, zero_bytes : float, optional
            Of each machine, as of `volume_curve`; by default what each log notes.

        Raises
        ------
        ValueError
            For arguments that make no sense, before any log is read.
        """
        if not 0 < at_least <= 1:
            raise ValueError(f"at_least must be above 0 and at most 1, not {at_least}")
        plateau(_NOTHING, bandwidth=bandwidth)
        memory = _memory(memory_bytes, zero_bytes)
        question = partial(
            questions.working, epochs=epochs, at_least=at_least, bandwidth=bandwidth, **memory
        )
        return self._ask(question, questions.WORKING_SET)

    def precopy(
        self,
        *,
        epochs: slice = slice(None),
        bandwidth: float,
        downtime_limit: float,
        page_header: float = PAGE_HEADER,
        max_total_seconds: float = 3600.0,
        memory_bytes: float | None = None,
        zero_bytes: float | None = None,
    ) -> Any:
        """Whether each machine would migrate: `iovabitmap.analysis.predict_precopy` of the volume
        curve of each log.

        The columns are `converges`, `rounds`, `total_bytes`, `total_seconds`, `downtime_seconds`
        and `why`, as those of a `Prediction`. Each log is taken alone, with the whole bandwidth. A
        log that does not note how much memory there is has an `error`, unless `memory_bytes` is
        given.

        Parameters
        ----------
        epochs : slice
            Those of each log that are taken, as of ``log[epochs]``; by default all.
        bandwidth : float
            Bytes per second; 1 Gbit/s is ``10**9 / 8``.
        downtime_limit, max_total_seconds : float
            Seconds.
        page_header : float
            Bytes sent with each page.
        memory_bytes, zero_bytes : float, optional
            Of each machine, and of its pages of zeros; by default what each log notes.

        Raises
        ------
        ValueError
            For arguments that make no sense, before any log is read.
        """
        how: dict[str, Any] = {
            "bandwidth": bandwidth,
            "downtime_limit": downtime_limit,
            "page_header": page_header,
            "max_total_seconds": max_total_seconds,
        }
        predict_precopy(_NOTHING, **how)
        memory = _memory(memory_bytes, zero_bytes)
        question = partial(questions.precopy, epochs=epochs, **memory, **how)
        return self._ask(question, questions.PRECOPY)

    def would_not_converge(self, *, epochs: slice = slice(None), **how: float | None) -> Any:
        """The rows of `precopy`, with the same arguments, that do not say that the machine would
        migrate.

        These are the logs that do not converge, and those that gave no answer, whose `converges` is
        missing: nobody knows that they would.
        """
        found = self.precopy(epochs=epochs, **how)  # type: ignore[arg-type]  # as its own arguments are
        return found[~found["converges"].fillna(False)]

    def _ask(self, question: Question, columns: Mapping[str, str] | None = None) -> Any:
        """The frame of a question. The tasks of one call share no key with those of another, so
        that no answer of before is taken for one of now."""
        dask = need("dask")
        ask = dask.delayed(questions.ask_each, pure=False, traverse=False)
        call, size = uuid.uuid4().hex, self._logs_per_task
        parts = [self.logs[k : k + size] for k in range(0, len(self.logs), size)]
        firsts = [part[0].encode(errors="backslashreplace").decode() for part in parts]  # for keys
        answers: tuple[list[Row], ...] = dask.compute(
            *(
                ask(self._place, part, question, dask_key_name=f"iovabitmap-{first}-{call}")
                for part, first in zip(parts, firsts, strict=True)
            )
        )
        rows = [*chain.from_iterable(answers)]
        first, last = questions.FIRST, questions.LAST
        if columns is None:
            named = {*first, *last}
            columns = {n: k for n, k in kinds(rows).items() if n not in named}
        return frame(self.logs, rows, {**first, **columns, **last})

    def __len__(self) -> int:
        return len(self.logs)

    def __repr__(self) -> str:
        return f"<Fleet {self.path}: {_logs(len(self))}, {len(self.others)} other files>"


# A machine that writes nothing: whether arguments make sense is asked of it first.
_NOTHING = VolumeCurve.constant(0.0, total_bytes=1)


def open(  # noqa: A001  # as gzip.open: it is called fleet.open
    path: StrPath,
    *,
    pattern: str = "*.parquet",
    logs_per_task: int = 1,
    storage_options: dict[str, Any] | None = None,
) -> Fleet:
    """The logs below a folder, at any depth.

    Which Dask does the work is the caller's choice: that of a `dask.distributed.Client` that was
    made, or of ``dask.config.set(scheduler=...)``; threads of this process without either. Workers
    open the logs themselves, so they must see the same files.

    Parameters
    ----------
    path : str or path
        A folder, or a URL that fsspec knows, as ``"s3://bucket/logs"``; what fsspec needs for it
        (as s3fs) is installed apart.
    pattern : str
        What the name of a log (a file, or the folder of one that was not closed) is like, as
        `fnmatch` has it. The fleet's `others` are the files that are not.
    logs_per_task : int
        How many logs, neighbours by name, one task reads. More than 1 where logs are small, so that
        what a task costs Dask is shared.
    storage_options : dict, optional
        What fsspec is told about a URL: credentials and the like.

    Raises
    ------
    ImportError
        Without Dask, pandas or pyarrow, or what fsspec needs.
    FileNotFoundError, NotADirectoryError
        Where there is nothing, or no folder of logs.
    OSError
        Where a folder cannot be listed.
    ValueError
        For `logs_per_task` below 1.

    Examples
    --------
    >>> import iovabitmap.fleet
    >>> machines = iovabitmap.fleet.open("logs")  # doctest: +SKIP
    >>> machines.would_not_converge(bandwidth=1.25e9, downtime_limit=0.3)  # doctest: +SKIP
    """
    for module in ("dask", "pandas", "pyarrow"):
        need(module, "fleet")
    return Fleet(Place(path, storage_options or {}), pattern, logs_per_task)
