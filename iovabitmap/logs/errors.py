"""What goes wrong with logs, and whom to blame for it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._base.paths import StrPath


class LogError(ValueError):
    """A log, or a file to be imported, that cannot be what it says: damaged, cut off, or forged.

    Parameters
    ----------
    path : str or path
        The file; the attribute `path` is its text.
    problem : str
        What is wrong with it.

    Examples
    --------
    >>> str(LogError("run.parquet", "not a log"))
    'run.parquet: not a log'
    """

    def __init__(self, path: StrPath, problem: str) -> None:
        super().__init__(os.fspath(path), problem)
        self.path = os.fspath(path)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@contextmanager
def blaming(path: StrPath, doing: str) -> Iterator[None]:
    """Turns whatever a library raises about a file's content into a LogError about the file.

    Also a MemoryError: our own requests are bounded, so a size that cannot be had is one that the
    file made up.
    """
    try:
        yield
    except LogError:
        raise
    except MemoryError as error:
        raise LogError(path, f"{doing}: it claims more memory than there is") from error
    except Exception as error:
        raise LogError(path, f"{doing}: {str(error) or type(error).__name__}") from error
