"""iovabitmap convert: into logs, out of logs, and finished ones of unfinished ones."""

from __future__ import annotations

from pathlib import Path

import click

from iovabitmap.logs import FORMATS, DirtyLog, LogWriter, import_log
from iovabitmap.logs.export import write_csv, write_raw
from iovabitmap.logs.importers import ONLY_FOR

from .. import _types
from .._given import refuse
from .._output import json_option, print_json, print_path, progress, warn

IMPORTING = ("iova", "length", "page_size", "interval", "regions", "target")
SUFFIXES = {".csv": "csv", ".raw": "raw", ".bin": "raw"}


@click.command(
    short_help="Into a log, out of one, or a finished one of an unfinished.",
    epilog="Formats to import: " + "; ".join(f"{name}: {text}" for name, text in FORMATS.items()),
)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Where to; must not exist.")
@click.option("--from", "source", type=click.Choice(list(FORMATS)), help="Import this format.")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["log", "csv", "raw"]),
    help="What to write; by default by the suffix of --out: .csv, .raw or .bin, else a log.",
)
@click.option(
    "--epochs", type=_types.epochs, default=":", help="For csv and raw, as a slice: 5, 3:7"
)
@click.option("--iova", type=_types.size, help="Import: the first address.")
@click.option("--length", type=_types.size, help="Import: bytes of addresses.")
@click.option("--page-size", type=_types.size, default="4K", help="Import: bytes for each bit.")
@click.option(
    "--interval", type=_types.duration, default="0", help="Import: length of an epoch, 100ms."
)
@click.option(
    "--region",
    "regions",
    type=_types.region,
    multiple=True,
    help="Import: where a part of a memory file belongs; repeat for each part, in order.",
)
@click.option("--target", type=int, help="Import: which target of a damo record.")
@click.option("--salvage", is_flag=True, help="Of a damaged recording, what is before the damage.")
@json_option
def command(
    inputs: tuple[Path, ...],
    out: Path | None,
    source: str | None,
    kind: str | None,
    epochs: slice,
    iova: int | None,
    length: int | None,
    page_size: int,
    interval: int,
    regions: tuple[tuple[int, int], ...],
    target: int | None,
    salvage: bool,
    as_json: bool,
) -> None:
    """Converts logs.

    \b
    convert LOG                       finish what a killed recording left in LOG.journal
    convert LOG -o NEW                the same, and leave LOG as it is
    convert LOG -o NEW.csv            its rows as text
    convert LOG -o NEW.raw            one bitmap: the pages dirty in any of --epochs
    convert --from FORMAT FILE... -o NEW    make a log of other programs' files
    """
    kind = kind or SUFFIXES.get(out.suffix if out else "", "log")
    refuse_what_does_nothing(source, out, kind)
    if source is not None:
        if out is None or kind != "log":
            raise click.UsageError("importing makes a log: say where with --out")
        with progress("importing", None) as done:
            import_log(
                source,
                inputs,
                out,
                iova=iova,
                length=length,
                page_size=page_size,
                interval_ns=interval,
                regions=regions,
                target=target,
                progress=done,
            )
    elif len(inputs) != 1:
        raise click.UsageError("one log at a time; to import other files, say --from")
    elif out is None:
        if kind != "log" or salvage:
            raise click.UsageError("say where to with --out")
        with progress("finishing", None) as done:
            out = LogWriter.finish(inputs[0], progress=done)
    else:
        export(inputs[0], out, kind, epochs, salvage)
    if as_json:
        print_json({"inputs": [str(path) for path in inputs], "out": str(out)})
    else:
        print_path(out)


def refuse_what_does_nothing(source: str | None, out: Path | None, kind: str) -> None:
    """UsageError for an option that does not belong to what is asked for."""
    if source is None:
        refuse("is for importing: say what with --from", *IMPORTING)
        if out is None and kind == "log":
            refuse(
                "is for reading what was recorded into another file: say where with --out",
                "salvage",
            )
        if kind == "log":
            refuse("is for csv and raw: a log is copied whole", "epochs")
        return
    refuse("is for reading a log, not for --from", "epochs", "salvage")
    for name, formats in ONLY_FOR.items():
        if source not in formats:
            refuse(f"is for {', '.join(formats)}, not for {source}", name.removesuffix("_ns"))


def export(path: Path, out: Path, kind: str, epochs: slice, salvage: bool) -> None:
    """Writes what is asked for of a log to `out`."""
    with DirtyLog.open(path, salvage=salvage) as log:
        if log.unfinished:
            warn(log.unfinished)
        with progress("writing", len(log)) as done:
            if kind == "csv":
                write_csv(log, out, epochs, progress=done)
            elif kind == "raw":
                write_raw(log, out, epochs)
            else:
                log.save(out, progress=done)
