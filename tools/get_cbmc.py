"""Fetches CBMC, the bounded model checker for C, as Debian 13 has it, into a folder of its own.

    python tools/get_cbmc.py [CACHE]

The program brings the C library it was built with and is started by that library's own loader, so
that it runs on an older system too. Nothing is installed; what is there already is used again. A
`cbmc` of version 6 or later that is on the PATH is preferred.

The last line printed is the program. Ends with 77, and says why, where it can't be had.
"""

from __future__ import annotations

import platform
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from trixie import Apt, skip

PACKAGES = ("cbmc", "libc6", "libgcc-s1", "libstdc++6", "minisat", "zlib1g")
OLDEST = 6  # the checks that are on by default since then are what tests/cbmc counts on

STARTER = """#!/bin/sh
here=$(dirname "$0")/root
exec "$here/{loader}" --library-path "$here/{libraries}:$here/usr/lib" "$here/usr/bin/cbmc" "$@"
"""


def version(program: Path | str) -> int:
    """Its major version; 0 where it doesn't run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    found = re.match(r"(\d+)\.", done.stdout)
    return int(found[1]) if found else 0


def fetch(cache: Path) -> Path:
    """Downloads and unpacks; returns the starter."""
    if shutil.which("dpkg") is None:
        skip("no dpkg to unpack CBMC with")
    root = cache / "root"
    apt = Apt(cache / "apt")
    downloads = cache / "apt" / "packages"
    shutil.rmtree(downloads, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    downloads.mkdir()
    apt.run("update", cwd=downloads)
    apt.run("download", *PACKAGES, cwd=downloads)
    for package in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, root], check=True)
    loaders = sorted(root.glob("usr/lib/*/ld-linux*.so.*"))
    if not loaders:
        skip(f"no loader for {platform.machine()} among Debian's packages")
    shutil.rmtree(cache / "apt")  # lists and packages: four fifths of all
    starter = cache / "cbmc"
    starter.write_text(
        STARTER.format(
            loader=loaders[0].relative_to(root), libraries=loaders[0].parent.relative_to(root)
        )
    )
    starter.chmod(starter.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return starter


def main() -> None:
    cache = Path(sys.argv[1] if len(sys.argv) > 1 else "build/cbmc").resolve()
    own, here = shutil.which("cbmc"), cache / "cbmc"
    if own is not None and version(own) >= OLDEST:
        print(own)
    elif version(here) >= OLDEST:
        print(here)
    else:
        cache.mkdir(parents=True, exist_ok=True)
        starter = fetch(cache)
        if version(starter) < OLDEST:
            sys.exit(f"{starter} does not run, or is older than {OLDEST}.0")
        print(starter)


if __name__ == "__main__":
    main()
