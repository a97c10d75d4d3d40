"""One address space: which of its pages were written, while mappings come and go.

Everything is asked of three descriptors that stand for the memory of one process: a userfaultfd,
its pagemap and its maps. Whether it is our own process makes no difference.

A mapping is found at the first look after it was made. What is in its memory by then was written
since the last look, because it was not there before; what is not in memory, is the page of zeros,
or still is the file's page, was not written. From there on, the kernel's write protection tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from .._base.interval_arrays import intersect, rows_of, subtract
from ..uapi import pagemap as pm
from ..uapi import userfaultfd as uffd
from . import maps
from ._layout import NO_ROOM, LayoutRow, Untracked, piece_name
from ._placement import NoRoomError
from ._processes import swapped_bytes

if TYPE_CHECKING:
    from .._base.interval_arrays import Rows
    from .._core import IOVABitmap
    from ._placement import Placement
    from .maps import Mapping

_POPULATED = pm.PAGE_IS_PRESENT | pm.PAGE_IS_SWAPPED
_WRITTEN = pm.PAGE_IS_WPALLOWED | pm.PAGE_IS_WRITTEN
_REASONS = {
    errno.EBUSY: "another userfaultfd has this memory",
    errno.EPERM: "a mapping of a file that may not be written",
}
_RETURNED = _POPULATED | pm.PAGE_IS_PFNZERO | pm.PAGE_IS_FILE


class _Area(NamedTuple):
    """A piece of a tracked mapping."""

    start: int
    end: int
    iova: int
    shared: bool
    name: str


# By name, and by how far the IOVA is from the address: spans that may overlap.
History: TypeAlias = dict[tuple[str, int], set[tuple[int, int]]]


class AddressSpace:
    """Tracks what `placement` wants of the memory behind three descriptors, which it then owns.

    `key` tells address spaces of one placement apart; `ever` is the history of the same one, if it
    was tracked before.
    """

    def __init__(
        self,
        key: int,
        pid: int,
        fds: tuple[int, int, int],
        placement: Placement,
        ever: History | None = None,
    ) -> None:
        self.pid = pid
        self._key = key
        self._uffd, self._pagemap, self.maps = self._fds = fds
        self._placement = placement
        self._text = b""
        self._areas: list[_Area] = []
        self._known = rows_of([])  # addresses whose pages are protected unless written
        self._unplaced: list[Untracked] = []
        self._unregistered: list[Untracked] = []
        self._ever: History = {} if ever is None else ever

    # --- life ---

    def arm(self) -> None:
        """Protects all that there is: what was written before is not told."""
        uffd.enable(self._uffd)
        self._look()
        wanted = rows_of((area.start, area.end) for area in self._areas)
        self._known = subtract(wanted, self._register(wanted))
        for start, end in self._known.tolist():
            with contextlib.suppress(OSError):  # gone by now, or in part: then it is found as new
                uffd.write_protect(self._uffd, start, end)

    def disarm(self) -> None:
        """Takes all protection away, whoever else may hold the descriptors."""
        for start, end in self._known.tolist():
            with contextlib.suppress(OSError):
                uffd.unregister(self._uffd, start, end)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    # --- looking ---

    def find(self, pending: IOVABitmap) -> None:
        """Marks the pages that were written since the last time, and protects them again.

        Raises OSError: ESRCH where the memory is gone; else all of it then counts as written.
        """
        self._look()
        if not self._areas:
            return
        wanted = rows_of((area.start, area.end) for area in self._areas)
        try:
            bare = self._bare(self._areas[0].start, self._areas[-1].end)
            known = subtract(self._known, bare)
            ours = subtract(wanted, self._register(subtract(wanted, known)))
            self._scan(ours, known, pending)
        except OSError:
            self._mark(self._known, pending)
            raise
        self._known = ours

    def _bare(self, start: int, end: int) -> Rows:
        """What is not registered: new mappings, and those that replaced another at its place."""
        allowed = pm.PAGE_IS_WPALLOWED
        scan = pm.scan(self._pagemap, start, end, mask=allowed, inverted=allowed)
        found = [each[:, :2] for each in scan]
        return rows_of(np.concatenate(found).tolist() if found else [])

    def _scan(self, ours: Rows, known: Rows, pending: IOVABitmap) -> None:
        """Marks what was written in `ours`, of which `known` was protected before.

        Nothing beside is scanned: what somebody else's userfaultfd protects is theirs to re-arm.
        """
        found: list[Rows] = []
        try:
            for start, end in intersect(ours, known)[0].tolist():
                found += self._scan_known(start, end)
        finally:
            if found:  # written, whatever kind of page it is
                self._mark(np.concatenate([rows[:, :2] for rows in found]), pending)
        found = []
        try:
            for start, end in subtract(ours, known).tolist():
                found += pm.scan(
                    self._pagemap, start, end, mask=_WRITTEN, returned=_RETURNED, protect=True
                )
        finally:
            if found:
                self._judge(np.concatenate(found), pending)

    def _scan_known(self, start: int, end: int) -> list[Rows]:
        """What of these addresses lost its protection. Not to ask for the kinds of the pages makes
        the kernel's answer much faster."""
        written = pm.PAGE_IS_WRITTEN
        found: list[Rows] = []
        try:
            found.extend(  # what it was given before an error stays
                pm.scan(
                    self._pagemap,
                    start,
                    end,
                    mask=written,
                    returned=written,
                    protect=True,
                    only_registered=True,
                )
            )
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            # A part was replaced just now by memory that is new, which the next look finds. What
            # lies behind it is asked for in the way that passes over such parts.
            found += pm.scan(
                self._pagemap, start, end, mask=_WRITTEN, returned=written, protect=True
            )
        return found

    def _judge(self, found: Rows, pending: IOVABitmap) -> None:
        """Marks what of the scan's rows (start, end, categories), of memory that is new, was
        written."""
        populated = (found[:, 2] & _POPULATED) != 0
        of_file = (found[:, 2] & pm.PAGE_IS_FILE) != 0
        zero = (found[:, 2] & pm.PAGE_IS_PFNZERO) != 0
        rows = found[:, :2]
        self._mark(rows[populated & ~zero & ~of_file], pending)
        # A page of shared memory is the file's page whether it was written or not.
        shared = rows_of((area.start, area.end) for area in self._areas if area.shared)
        self._mark(intersect(rows[populated & of_file & ~zero], shared)[0], pending)

    def _mark(self, rows: Rows, pending: IOVABitmap) -> None:
        """Marks what of these addresses lies in our mappings."""
        areas = np.array([area[:3] for area in self._areas], np.uint64).reshape(-1, 3)
        inside, index = intersect(rows, areas[:, :2])
        if len(inside):
            marks = np.empty_like(inside)
            marks[:, 0] = areas[index, 2] + (inside[:, 0] - areas[index, 0])
            marks[:, 1] = inside[:, 1] - inside[:, 0]
            pending.set_ranges(marks)

    def _register(self, fresh: Rows) -> Rows:
        """Registers new addresses. What cannot be is untracked, and returned."""
        areas = np.array([area[:2] for area in self._areas], np.uint64).reshape(-1, 2)
        failed = []
        self._unregistered = []
        # One by one: a mapping that cannot be registered must not keep others back.
        spans, index = intersect(fresh, areas)
        for (start, end), which in zip(spans.tolist(), index.tolist(), strict=True):
            try:
                uffd.register(self._uffd, start, end)
            except OSError as error:
                if error.errno == errno.ESRCH:  # the process is gone
                    raise
                failed.append((start, end))
                reason = _REASONS.get(error.errno or 0, error.strerror or repr(error))
                what = piece_name(self._areas[which].name, start, end)
                self._unregistered.append(Untracked(self.pid, what, reason))
        return rows_of(failed)

    # --- mappings ---

    def _look(self) -> None:
        """Which mappings there are now. OSError ESRCH where the memory is gone: exit, or exec."""
        text = maps.read(self.maps)
        if not text:
            raise ProcessLookupError(errno.ESRCH, f"the memory of process {self.pid} is gone")
        if text == self._text:
            return
        self._text = text
        self._areas, self._unplaced = [], []
        folders = maps.hugetlb_folders()
        for mapping in maps.parse(text.decode(errors="surrogateescape")):
            if self._placement.wants(mapping):
                self._add(mapping, mapping.is_hugetlb(folders))

    def _add(self, mapping: Mapping, is_hugetlb: bool) -> None:
        name = mapping.name or "anonymous"
        what = piece_name(name, mapping.start, mapping.end)
        if is_hugetlb:
            self._unplaced.append(Untracked(self.pid, what, "memory of huge pages"))
            return
        try:
            pieces = self._placement.place(self._key, mapping)
        except NoRoomError:
            self._unplaced.append(Untracked(self.pid, what, NO_ROOM))
            return
        for piece in pieces:
            self._areas.append(_Area(*piece, mapping.shared, name))
            self._ever.setdefault((name, piece.iova - piece.start), set()).add(piece[:2])

    def mapped_bytes(self) -> int:
        """Of the mappings that are tracked, as of the last look."""
        return _nbytes(self._known)

    def resident_bytes(self) -> int:
        """Of the pages in these that are the process's own: in memory, or swapped out.

        A page of zeros that was only read, and a page of a private mapping that is still the
        file's, are not. Of shared memory all pages count that this process has in its tables.
        Raises OSError: ESRCH where the memory is gone.
        """
        if not len(self._known):
            return 0
        own = pm.PAGE_IS_WPALLOWED | pm.PAGE_IS_PRESENT
        zero, of_file = pm.PAGE_IS_PFNZERO, pm.PAGE_IS_FILE
        start, end = int(self._known[0, 0]), int(self._known[-1, 1])
        shared = rows_of((area.start, area.end) for area in self._areas if area.shared)
        total = 0
        for found in pm.scan(
            self._pagemap, start, end, mask=own | zero, inverted=zero, returned=of_file
        ):
            is_of_file = (found[:, 2] & of_file) != 0
            total += _nbytes(intersect(found[~is_of_file, :2], self._known)[0])
            if len(shared):
                total += _nbytes(intersect(found[is_of_file, :2], shared)[0])
        # Write protection leaves marks in the page tables that a scan takes for pages swapped out.
        return total + swapped_bytes(self.pid)

    @property
    def untracked(self) -> list[Untracked]:
        """Mappings that were wanted, and whose writes are not seen, as of the last look."""
        return self._unplaced + self._unregistered

    def rows(self) -> list[LayoutRow]:
        """All that was ever tracked. What is contiguous and has one name is one row."""
        rows = []
        for (name, skip), spans in self._ever.items():
            merged = [(start, end) for start, end in rows_of(spans).tolist()]
            self._ever[name, skip] = set(merged)
            rows += [LayoutRow(at + skip, end - at, at, self.pid, name) for at, end in merged]
        return rows


def _nbytes(rows: Rows) -> int:
    return int((rows[:, 1] - rows[:, 0]).sum())
