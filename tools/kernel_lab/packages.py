"""Fetches Debian packages of another suite and unpacks them into a folder. Nothing is installed.

    python tools/kernel_lab/packages.py FOLDER SUITE PACKAGE     # prints where it is

The mirror is the one that this machine's apt already uses, with the suite exchanged; apt's own
lists, cache and settings stay as they are.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class UnavailableError(Exception):
    """Something that the lab needs cannot be had here; the text says what."""


class Suite:
    """One suite of Debian, with lists of its own in `folder`."""

    def __init__(self, name: str, folder: Path) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise UnavailableError("no apt-get or dpkg-deb: packages are fetched on Debian only")
        self._folder = folder.resolve()
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        sources = self._folder / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {name} main\n")
        settings = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": self._folder / "lists",
            "Dir::Cache": self._folder / "cache",
            "APT::Sandbox::User": "root",  # the folder need not be readable for others
        }
        self._options = [f"-o{key}={value}" for key, value in settings.items()]
        self._run("apt-get", "update", "-qq")

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *self._options, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder / "debs",
        )
        if done.returncode != 0:
            raise UnavailableError(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def dependency(self, package: str, prefix: str) -> str:
        """The package that a meta package stands for, by the beginning of its name."""
        for line in self._run("apt-cache", "depends", package).splitlines():
            name = line.rpartition(" ")[2]
            if name.startswith(prefix) and name != package:
                return name
        raise UnavailableError(f"{package} depends on no {prefix}...")

    def unpack(self, package: str) -> Path:
        """The folder with the package's content, fetched where it is not there yet."""
        target = self._folder / package
        if not target.exists():
            self._run("apt-get", "download", "-qq", package)
            (archive,) = (self._folder / "debs").glob(f"{package}_*.deb")
            partial = target.with_name(f"{package}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(["dpkg-deb", "-x", str(archive), str(partial)], check=True)
            archive.unlink()
            partial.rename(target)
        return target


def _mirror() -> str:
    """Where this machine gets Debian's main packages from."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(COMPONENT)|$(LABEL)|$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        origin, component, label, uri = line.split("|", 3)
        if (origin, component, label) == ("Debian", "main", "Debian"):
            return uri
    raise UnavailableError("this machine's apt has no Debian mirror, or was never updated")


if __name__ == "__main__":
    try:
        print(Suite(sys.argv[2], Path(sys.argv[1])).unpack(sys.argv[3]))
    except UnavailableError as reason:
        sys.exit(f"kernel-lab: {reason}")
