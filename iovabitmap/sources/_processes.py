"""What /proc tells of other processes: their children, and whether a library can be preloaded."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

_ELF_MAGIC = b"\x7fELF"
_PT_INTERP = 3


def descendants(pid: int) -> list[int]:
    """Living children of a process, their children, and so on; not itself, and no zombies."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state, parent = _state(int(entry.name))
            if state not in ("Z", "X", ""):
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found += new
        todo += new
    return sorted(found)


def _state(pid: int) -> tuple[str, int]:
    """Its state and its parent; ("", 0) where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", 0
    state, parent = text.rpartition(")")[2].split()[:2]  # a name may hold anything
    return state, int(parent)


def swapped_bytes(pid: int) -> int:
    """Of a process's private memory, what is swapped out; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields.get("VmSwap", "0 kB").split()[0]) << 10


def command_of(pid: int) -> str:
    """The command line of a process, "?" where it is gone."""
    try:
        content = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "?"
    return content.replace(b"\0", b" ").decode(errors="replace").strip() or "?"


def why_not_preloaded(pid: int) -> str:
    """Why the loader puts no library into what this process runs; "" where it may well do."""
    return why_not_preloadable(Path(f"/proc/{pid}/exe"))


def why_not_preloadable(program: Path) -> str:
    """Why the loader puts no library into this file's program; "" where it may well do."""
    try:
        with program.open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(1 << 16)
    except OSError:
        return ""
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID) and os.getuid() != 0:
        return "a setuid program takes no preloaded library"
    if head[:4] != _ELF_MAGIC:
        return ""
    if (head[4] == 2) != (sys.maxsize > 1 << 32):
        return "a program of another word size takes no preloaded library"
    return "" if _has_interpreter(head) else "a static program takes no preloaded library"


def _has_interpreter(head: bytes) -> bool:
    """Whether the program headers of an ELF file of this machine's word size name a loader."""
    wide = head[4] == 2
    order = "little" if head[5] == 1 else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(head[at : at + size], order)  # type: ignore[arg-type]

    table = number(32, 8) if wide else number(28, 4)
    entry, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
    return any(number(table + i * entry, 4) == _PT_INTERP for i in range(count))
