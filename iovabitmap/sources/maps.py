"""The mappings of a process, as /proc/PID/maps lists them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_CHUNK = 1 << 16


class Mapping(NamedTuple):
    """One mapping: host addresses [start, end).

    `perms` such as "rw-p", `offset` into the file, `name` a path, "[heap]", "[stack]", or "" for
    anonymous memory.
    """

    start: int
    end: int
    perms: str
    offset: int
    inode: int
    name: str

    @property
    def writable(self) -> bool:
        return self.perms[1] == "w"

    @property
    def shared(self) -> bool:
        return self.perms[3] == "s"

    def is_hugetlb(self, folders: list[str]) -> bool:
        """Memory of huge pages that the kernel tracks as one each; `folders` hold their files."""
        return self.name.startswith("/anon_hugepage") or any(
            self.name.startswith(f"{folder}/") for folder in folders
        )


def parse(text: str) -> list[Mapping]:
    """The mappings that a text in the format of /proc/PID/maps lists, ascending.

    Examples
    --------
    >>> parse("7f0000000000-7f0000002000 rw-p 00001000 08:01 42    /tmp/a file")[0]
    Mapping(start=139637976727552, end=139637976735744, perms='rw-p', offset=4096, inode=42, \
name='/tmp/a file')
    """
    mappings = []
    for line in text.splitlines():
        span, perms, offset, _, inode, *name = line.split(maxsplit=5)
        start, _, end = span.partition("-")
        mappings.append(
            Mapping(
                int(start, 16),
                int(end, 16),
                perms,
                int(offset, 16),
                int(inode),
                name[0] if name else "",
            )
        )
    return mappings


def read(fd: int) -> bytes:
    """All of an open /proc/PID/maps, which tells the mappings as they are now."""
    parts = []
    offset = 0
    while part := os.pread(fd, _CHUNK, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def of_process(pid: int | str) -> list[Mapping]:
    """The mappings of a process. OSError where it is gone, or may not be looked at."""
    return parse(Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape"))


def thread_stacks(pid: int | str) -> dict[int, int]:
    """Stack pointers of a process's threads other than its first, by thread.

    Only of those that wait in the kernel just now: the others have none to tell.
    """
    pointers = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name == str(pid):
            continue
        try:
            fields = (task / "syscall").read_text().split()
        except OSError:  # it ended, or we may not look
            continue
        if len(fields) >= 3:  # number, arguments, stack pointer, program counter
            pointers[int(task.name)] = int(fields[-2], 16)
    return pointers


def hugetlb_folders() -> list[str]:
    """Where file systems of huge pages are mounted just now."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [fields[1] for line in lines if (fields := line.split())[2] == "hugetlbfs"]
