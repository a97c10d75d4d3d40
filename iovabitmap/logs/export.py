"""Out of a log: rows as CSV, and a window's union as a raw bitmap. Neither replaces a file, and
what fails or is interrupted leaves none."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .._base.optional import need
from ..timeline.epoch import write_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._base.paths import StrPath
    from .log import DirtyLog


def write_csv(
    log: DirtyLog,
    path: StrPath,
    epochs: slice = slice(None),
    *,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Writes the rows of a window as CSV with a header, a block at a time.

    Raises
    ------
    FileExistsError
        Where there is something at `path`.
    """
    pa, csv = need("pyarrow"), need("pyarrow.csv")
    i, j, _ = epochs.indices(len(log))
    schema = pa.schema([(name, pa.int64()) for name in ("epoch", "t_start_ns", "t_end_ns")])
    schema = schema.append(pa.field("iova", pa.uint64())).append(pa.field("length", pa.uint64()))
    # Opened here: pyarrow takes no name that is not UTF-8.
    with (
        _new_file(path) as part,
        part.open("wb") as file,
        csv.CSVWriter(file, schema) as writer,
    ):
        for block in log._epochs.blocks(i, j):
            writer.write_table(pa.table(list(block), schema=schema))
            if progress is not None:
                progress(int(block.epoch[-1]) + 1)


def write_raw(log: DirtyLog, path: StrPath, epochs: slice = slice(None)) -> None:
    """Writes the union of a window as a raw bitmap; the layout is that of `Epoch.to_raw`.

    Raises
    ------
    FileExistsError
        Where there is something at `path`.
    """
    with _new_file(path) as part, log[epochs].union() as bm, part.open("wb") as file:
        write_words(bm, file)


@contextmanager
def _new_file(path: StrPath) -> Iterator[Path]:
    """A name to write to, which becomes `path` when all went well."""
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists")
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
