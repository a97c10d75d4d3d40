"""Packages of Debian 13 on a machine that runs another Debian, without installing any.

Only the suite differs from the machine's own apt settings: the mirror and the key are those it has.
Lists, downloads and caches lie in a folder of the caller's, and nothing of the system is changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def skip(reason: str) -> NoReturn:
    """Ends with 77: this machine can't, which is no failure of the project."""
    print(f"skipped: {reason}")
    sys.exit(77)


def mirror() -> str:
    """The address of the Debian archive that this machine's apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for address in done.stdout.split():
        if address.rstrip("/").endswith("/debian"):
            return address
    skip("apt knows no Debian archive")


class Apt:
    """apt-get for the suite, with all that it keeps in `folder`. `kind`: "deb" for packages, or
    "deb-src" for their sources."""

    def __init__(self, folder: Path, kind: str = "deb") -> None:
        if shutil.which("apt-get") is None or not KEYRING.exists():
            skip("no apt-get with the key of Debian's archive")
        for name in ("lists/partial", "archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        sources = folder / "sources.list"
        sources.write_text(f"{kind} [signed-by={KEYRING}] {mirror()} {SUITE} main\n")
        self.log = folder / "log"
        settings = (
            f"Dir::Etc::sourcelist={sources}",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State::lists={folder / 'lists'}",
            f"Dir::Cache={folder}",
            "APT::Get::List-Cleanup=0",
            "APT::Sandbox::User=",  # the folder may lie where apt's own user cannot write
        )
        self.command = ("apt-get", "-qq", *(w for setting in settings for w in ("-o", setting)))

    def run(self, *arguments: str, cwd: Path) -> None:
        """A command of apt-get; what can't be fetched ends in a skip."""
        with self.log.open("ab") as out:
            done = subprocess.run(
                (*self.command, *arguments), cwd=cwd, stdout=out, stderr=out, check=False
            )
        if done.returncode != 0:
            print(self.log.read_text(errors="replace")[-1500:])
            skip(f"apt-get {arguments[0]} for {SUITE} failed")
