"""Says whether the project can be released: that all of it states one version and date, that its
metadata and the wheels that it asks for are valid, and that built files are of that version.

    python tools/release.py [DIST]

DIST holds what `make dist` built. Ends with 1 and a line for each problem. Needs the extra `dist`;
tests/docs/test_release.py runs what does not.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Where a version is written by hand, and how; the numbers of it, where they stand apart.
STATED = {
    "pyproject.toml": r'version = "(.+)"',
    "iovabitmap/__init__.py": r'__version__ = "(.+)"',
    "CHANGELOG.md": r"## \[(\d.*?)\]",  # the newest that has a number
    "CITATION.cff": r"version: (.+)",
    "csrc/include/iova_bitmap.h": r"\n".join(
        rf"#define IOVA_BITMAP_VERSION_{part} (\d+)" for part in ("MAJOR", "MINOR", "PATCH")
    ),
}
DATED = {
    "CHANGELOG.md": r"## \[\d.*\] - (\d{4}-\d\d-\d\d)",
    "CITATION.cff": r"date-released: (\d{4}-\d\d-\d\d)",
}
WHEELS = ("cp311", "cp314t", "cp315t")  # those that are built; the others test the first
PLATFORMS = ("manylinux", "musllinux")
MACHINES = ("x86_64", "aarch64")


def stated(root: Path, patterns: dict[str, str]) -> dict[str, str]:
    """What the first line that matches in each file says; "nothing" where none does."""
    found = {}
    for name, pattern in patterns.items():
        match = re.search(f"^{pattern}", (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = ".".join(match.groups()) if match else "nothing"
    return found


def disagreements(root: Path) -> list[str]:
    """One line for the version and one for the date, where not all files state the same."""
    lines = []
    for what, patterns in (("version", STATED), ("date", DATED)):
        values = stated(root, patterns)
        if len(set(values.values())) != 1 or "nothing" in values.values():
            said = ", ".join(f"{name} says {value}" for name, value in values.items())
            lines.append(f"not one {what}: {said}")
    return lines


def unreleased(root: Path) -> list[str]:
    """Changes that no version has yet, and files that no commit has."""
    lines = []
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section and section[1].strip():
        lines.append("CHANGELOG.md has changes under [Unreleased]: give them a version and a date")
    git = ("git", "-C", str(root), "status", "--porcelain")
    status = subprocess.run(git, capture_output=True, text=True, check=False)
    if status.returncode != 0:
        lines.append(f"this is no clone of git's: {status.stderr.strip()}")
    lines += [f"not committed: {line}" for line in status.stdout.splitlines()]
    return lines


def bad_classifiers(root: Path) -> list[str]:
    from trove_classifiers import classifiers, deprecated_classifiers

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    unknown = [
        name
        for name in project["classifiers"]
        if name not in classifiers or name in deprecated_classifiers
    ]
    return [f"pyproject.toml: no classifier: {name}" for name in unknown]


def bad_wheels(root: Path) -> list[str]:
    """What cibuildwheel says of its configuration, and wheels that it would not build."""
    command = (sys.executable, "-m", "cibuildwheel", "--platform", "linux")
    done = subprocess.run(
        [*command, "--print-build-identifiers", root], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return [f"cibuildwheel: {(done.stderr or done.stdout).strip()}"]
    built = done.stdout.split()
    wanted = [f"{w}-{p}_{m}" for w in WHEELS for p in PLATFORMS for m in MACHINES]
    return [f"cibuildwheel would not build {name}" for name in wanted if name not in built]


def misnamed(dist: Path, version: str) -> list[str]:
    """One sdist and at least one wheel, all of this version."""
    names = sorted(path.name for path in dist.iterdir())
    lines = [
        f"{dist.name}/{name} is not of version {version}"
        for name in names
        if not name.startswith((f"iovabitmap-{version}-cp3", f"iovabitmap-{version}.tar.gz"))
    ]
    if f"iovabitmap-{version}.tar.gz" not in names:
        lines.append(f"{dist.name} lacks the sdist of version {version}")
    if not any(name.endswith(".whl") for name in names):
        lines.append(f"{dist.name} has no wheel")
    return lines


def main() -> None:
    version = stated(ROOT, STATED)["pyproject.toml"]
    problems = disagreements(ROOT)
    if len(sys.argv) > 1:
        problems += misnamed(Path(sys.argv[1]), version)
    else:
        problems += unreleased(ROOT) + bad_classifiers(ROOT) + bad_wheels(ROOT)
    if problems:
        sys.exit("\n".join(problems))
    print(f"version {version}: all agree")


if __name__ == "__main__":
    main()
