"""Where the logs of a fleet are: a folder or a bucket that is listed, and its logs, to be opened.

The one file that knows of fsspec. A local log is opened where it is. One of a bucket is copied to a
temporary folder for as long as it is open, since logs are read at many places of the file.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .._base.optional import need
from .._base.paths import StrPath
from ..logs import DirtyLog
from ..logs.errors import blaming
from ..logs.storage.names import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator


class Place:
    """A folder of a file system of fsspec. Can be pickled: workers get it with each task.

    Parameters
    ----------
    path : str or path
        A folder, or a URL that fsspec knows.
    storage_options : dict
        For the file system of a URL.

    Raises
    ------
    ImportError
        Without fsspec, or what it needs for this kind of URL.
    FileNotFoundError, NotADirectoryError
        Where there is nothing, or no folder.
    """

    def __init__(self, path: StrPath, storage_options: dict[str, Any]) -> None:
        self.path = os.fspath(path)
        to_fs = need("fsspec.core").url_to_fs
        local = need("fsspec.implementations.local").LocalFileSystem
        if Path(self.path).is_dir():  # whatever its name looks like: "a::b" and "file:c" are names
            self.fs, self.root = local(**storage_options), Path(self.path).absolute().as_posix()
        else:
            self.fs, self.root = to_fs(self.path, **storage_options)
        self.local = isinstance(self.fs, local)
        is_one = self.fs.isfile(self.root) or self.fs.isfile(self.root + SUFFIX)
        if not is_one and not self.fs.exists(self.root):
            raise FileNotFoundError(f"{self.path}: there is no such folder")
        if is_one or not self.fs.isdir(self.root):
            raise NotADirectoryError(f"{self.path}: no folder of logs; DirtyLog.open reads one log")

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if self.root else name

    def names(self, pattern: str) -> tuple[list[str], list[str]]:
        """The logs below the folder at any depth, and the files that belong to none.

        A log is a file whose name `pattern` fits, finished or a journal; the suffix of that is not
        a part of the name. Names are relative to the folder, and sorted.
        """
        logs: set[str] = set()
        others: set[str] = set()
        self.fs.invalidate_cache()
        for path in self._files(self.root):
            name = path.removeprefix(self.root).strip("/")
            log = name.removesuffix(SUFFIX)
            fits = fnmatchcase(log.rpartition("/")[2], pattern)
            (logs if fits else others).add(log if fits else name)
        return sorted(logs), sorted(others)

    def _files(self, folder: str) -> Iterator[str]:
        """All files below a folder. Not fs.walk, which leaves out folders that it cannot list."""
        for entry in self.fs.ls(folder, detail=True):
            path = entry["name"].rstrip("/")
            if entry["type"] != "directory":
                yield path
            elif path != folder.rstrip("/"):  # which some buckets list in itself
                yield from self._files(path)

    @contextmanager
    def log(self, name: str) -> Iterator[DirtyLog]:
        """The log of that name, open."""
        if self.local:
            with DirtyLog.open(self._at(name)) as log:
                yield log
            return
        with (
            TemporaryDirectory(prefix="iovabitmap-") as folder,
            DirtyLog.open(self._copied(self._at(name), Path(folder))) as log,
        ):
            yield log

    def _copied(self, log: str, folder: Path) -> Path:
        copy = folder / "log"
        with blaming(log, "it cannot be copied here"):  # file systems have errors of their own
            try:
                self.fs.get_file(log, str(copy))
            except FileNotFoundError:  # not finished
                self.fs.get_file(log + SUFFIX, str(copy) + SUFFIX)
        return copy
