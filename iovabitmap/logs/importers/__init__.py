"""Logs made of what other programs wrote: one file for each format, and the one way through them.

An importer reads its files and yields epochs; `import_log` turns those into a log. What a file says
is checked as a log's is: a damaged one is a LogError that names it, and no log is left behind.
"""

from __future__ import annotations

import operator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._base.geometry import Geometry
from ..._base.rows import integer_rows
from ..._base.times import nanoseconds
from ..errors import LogError
from ..writer import LogWriter
from ._common import Imported, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..._base.paths import StrPath

FORMATS = {
    "raw": "bitmaps as KVM and VFIO write them: 64-bit little-endian words, a file for each epoch",
    "firecracker": "Firecracker's diff snapshots: memory files whose holes are clean pages",
    "cloud-hypervisor": "memory range tables of Cloud Hypervisor, JSON or binary",
    "qemu": "what `qemu-img map --output=json` says of a dirty bitmap",
    "criu": "CRIU's pagemap-*.img of incremental dumps",
    "damo": "damo's records of DAMON: JSON (compressed or not), perf script's text, raw reports",
}

# Options that the other formats have no use for: they say it themselves, or have no such thing.
ONLY_FOR = {
    "regions": ("firecracker",),
    "target": ("damo",),
    "interval_ns": tuple(name for name in FORMATS if name != "damo"),
}


def load(format: str, inputs: Iterable[StrPath], options: Options) -> Imported:  # noqa: A002
    """What an importer finds. ValueError for a format that there is not, or an option that this
    one has no use for."""
    if format not in FORMATS:
        raise ValueError(f"no format {format!r}; there are {', '.join(FORMATS)}")
    for name, formats in ONLY_FOR.items():
        if format not in formats and getattr(options, name) != Options._field_defaults[name]:
            raise ValueError(f"{name}: only for {', '.join(formats)}, not for {format}")
    paths = [Path(path) for path in inputs]
    if not paths:
        raise ValueError("nothing to import: no file is given")
    module = import_module(f".{format.replace('-', '_')}", __name__)
    found: Imported = module.load(paths, options)
    return found


def import_log(
    format: str,  # noqa: A002
    inputs: Iterable[StrPath],
    out: StrPath,
    *,
    iova: int | None = None,
    length: int | None = None,
    page_size: int = 4096,
    interval_ns: int = 0,
    regions: Sequence[tuple[int, int]] = (),
    target: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Makes a log of files that another program wrote.

    Parameters
    ----------
    format : str
        One of `FORMATS`.
    inputs : paths
        For most formats one file for each epoch, in their order.
    out : path
        The log; must not exist.
    iova, length : int, optional
        The range of addresses; by default what the files cover.
    page_size : int
        Bytes for each bit.
    interval_ns : int
        How long an epoch is, where the files do not say: epoch n then begins at n times that. With
        0 all times are 0, and the log's notes say that they are unknown.
    regions : rows (iova, length), optional
        Where the bytes of a memory file belong, in the file's order; by default all from `iova` on.
    target : int, optional
        Of a damo record of several targets, which.
    progress : callable, optional
        Called with the number of epochs done.

    Raises
    ------
    LogError
        For a file that is damaged, or not of this format.
    ValueError
        For options that make no sense.
    FileExistsError
        Where there is something at `out`.

    Examples
    --------
    >>> import_log("raw", ["0.bin", "1.bin"], "kvm.parquet", iova=0)  # doctest: +SKIP
    """
    options = Options(
        None if iova is None else operator.index(iova),
        None if length is None else operator.index(length),
        operator.index(page_size),
        nanoseconds("interval_ns", interval_ns),
        tuple((start, size) for start, size in integer_rows(regions, "regions").tolist()),
        target,
    )
    found = load(format, inputs, options)
    notes: dict[str, Any] = {"imported": [str(path) for path in inputs], **found.notes}
    if not found.timed and not interval_ns:
        notes["times"] = "unknown"
    log = LogWriter(
        out,
        Geometry(found.iova, found.length, options.page_size),
        granularity=max(found.granularity or page_size, options.page_size),
        source=found.source,
        notes=notes,
    )
    try:
        for n, (path, rows, t_start_ns, t_end_ns) in enumerate(found.epochs):
            try:
                log.append_ranges(rows, t_start_ns, t_end_ns)
            except ValueError as error:
                raise LogError(path, f"epoch {n}: {error}") from error
            if progress is not None:
                progress(n + 1)
        log.close()
    except BaseException:
        log.discard()
        raise
