"""`dirty_patterns` and `epochs`: what is dirty, at one time and over time.

Every kind of pattern draws the same choices and makes something else of them: so none is simpler
than another but by its place in `KINDS`, and values shrink from one kind to another. No kind makes
more runs of as many choices than "sparse" does, or else it can make the same simple runs: few pages
would shrink to it, and not to few pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, SupportsIndex

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from ..._base.geometry import Geometry
from ..._base.intervals import Interval as Run
from ..._base.intervals import union
from ._arguments import TOP, GeometryLike, bounds, geometry_of
from ._ranges import A_FEW, page_numbers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

KINDS = ("empty", "sparse", "runs", "full", "strided", "dense", "hot-cold")
MAX_RUNS = 1024  # of what is strided; all other patterns have less
SCALES = (1, 64, 4096)
TIMES = (*range(1, A_FEW + 1), *[MAX_RUNS] * A_FEW)  # how often a stride is repeated
MAX_EPOCHS = 8


def rows_of(geometry: Geometry, runs: Iterable[Run]) -> npt.NDArray[np.uint64]:
    """Runs of pages [first, stop), cut to the geometry, as `IOVABitmap.ranges` would give them."""
    import numpy as np

    iova, length, size = geometry
    cut = [(max(first, 0), min(stop, geometry.npages)) for first, stop in runs]
    found = [
        (iova + first * size, min(stop * size, length) - first * size)
        for first, stop in union(run for run in cut if run[0] < run[1])
    ]
    return np.array(found, np.uint64).reshape(-1, 2)


def every(first: int, stop: int, stride: int, width: int, times: int = MAX_RUNS) -> list[Run]:
    """`width` of every `stride` pages."""
    return [(n, min(n + width, stop)) for n in range(first, stop, stride)[:times]]


def without(runs: Iterable[Run], first: int, stop: int) -> list[Run]:
    """What runs leave of [first, stop)."""
    edges = [first, *(n for run in union(runs) for n in run), stop]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _hole(page: int, nbits: int) -> int:
    """The clean page for which a page of "sparse" begins a run of "dense", or else the last page.

    So both have as many runs: "dense" has one more than holes, "sparse" the page of the first seed.
    """
    return page if page == nbits - 1 else page - 1


def _pattern(kind: str, nbits: int, seeds: Sequence[Run], scale: int, times: int) -> list[Run]:
    """`seeds` are pages and small numbers: where, and how many."""
    (first, width), others = seeds[0], seeds[1:]
    if kind == "empty":
        return []
    if kind == "sparse":
        return [(page, page + 1) for page, _ in seeds]
    if kind == "runs":
        return [(page, page + number * scale) for page, number in seeds]
    if kind == "full":
        return [(0, nbits)]
    if kind == "strided":
        return every(first, nbits, width + seeds[-1][1] * scale, width, times)
    if kind == "dense":
        holes = [_hole(page, nbits) for page, _ in others if page > 0]
        return without([(page, page + 1) for page in holes], 0, nbits)
    return _hot_and_cold(first, width, others, scale)


def _hot_and_cold(first: int, width: int, others: Sequence[Run], scale: int) -> list[Run]:
    """A place with a hole for each of the others, apart even at the smallest scale; their pages."""
    stop = first + width * scale + 2 * len(others)
    holes = [
        first + 1 + 2 * n + (number - 1) * scale + page % scale
        for n, (page, number) in enumerate(others)
    ]
    hot = without([(hole, hole + 1) for hole in holes if hole < stop], first, stop)
    return hot + [(page, page + 1) for page, _ in others]


@st.composite
def dirty_patterns(
    draw: st.DrawFn, geometry: GeometryLike, *, kinds: Sequence[str] = KINDS
) -> npt.NDArray[np.uint64]:
    """What may be dirty: rows (iova, length), an array of shape (n, 2), uint64.

    Ascending, apart from each other and cut to the geometry, as `IOVABitmap.ranges` gives them.
    `kinds` are those to draw: "empty"; "sparse", a few pages; "runs"; "full"; "strided", so many of
    every so many pages, a few times or up to the end; "dense", all but a few; "hot-cold", one place
    that is nearly all dirty and a few pages elsewhere.

    Shrinks to nothing, then to few pages from page 0 on: to kinds by their place in that list.

    >>> from hypothesis import find
    >>> find(dirty_patterns(Geometry(0, 2**20, 4096)), lambda rows: len(rows) == 2).tolist()
    [[0, 4096], [8192, 4096]]
    """
    where = geometry_of(draw, geometry)
    unknown = set(kinds) - set(KINDS)
    if unknown or isinstance(kinds, str) or not kinds:
        raise InvalidArgument(f"kinds must be some of {KINDS}, not {kinds!r}")
    kind = draw(st.sampled_from([kind for kind in KINDS if kind in kinds]))
    seed = st.tuples(page_numbers(where.npages), st.integers(1, A_FEW))
    seeds = draw(st.lists(seed, min_size=1, max_size=16))
    scale, times = draw(st.sampled_from(SCALES)), draw(st.sampled_from(TIMES))
    return rows_of(where, _pattern(kind, where.npages, seeds, scale, times))


@st.composite
def _moves(draw: st.DrawFn, width: int, nbits: int) -> int:
    """How far a working set moves. As many choices whatever its width, so that it can shrink."""
    farthest = width if draw(st.sampled_from(("near", "far"))) == "near" else nbits
    return draw(st.integers(-farthest, farthest))


@st.composite
def epochs(
    draw: st.DrawFn,
    geometry: GeometryLike,
    *,
    min_size: SupportsIndex = 0,
    max_size: SupportsIndex = MAX_EPOCHS,
) -> list[npt.NDArray[np.uint64]]:
    """Sequences of `min_size` to `max_size` dirty sets, each as `dirty_patterns` gives one.

    There is a working set, so many pages at one place, of which each epoch dirties all, every
    second one, or none; between epochs it stays, moves a little, or goes elsewhere. Some epochs
    dirty a page outside of it too.

    Shrinks to few epochs of one page, which does not move.

    >>> from hypothesis import find
    >>> found = find(epochs(Geometry(0, 2**20, 4096)), lambda sets: len(sets) == 2)
    >>> [rows.tolist() for rows in found]
    [[[0, 4096]], [[0, 4096]]]
    """
    where = geometry_of(draw, geometry)
    fewest, most = bounds("size", min_size, max_size, 0, TOP - 1)
    place = draw(page_numbers(where.npages))
    width = min(draw(st.integers(1, A_FEW)) * draw(st.sampled_from(SCALES)), where.npages)
    moves = st.tuples(
        _moves(width, where.npages),
        st.sampled_from(("all", "half", "none")),
        st.none() | page_numbers(where.npages),
    )
    found = []
    for number, (move, share, stray) in enumerate(
        draw(st.lists(moves, min_size=fewest, max_size=most))
    ):
        if number > 0:
            place = min(max(place + move, 0), where.npages - 1)
        stride = 2 if share == "half" else 1
        runs = every(place, place + width, stride, 1) if stride > 1 else [(place, place + width)]
        if share == "none":
            runs = []
        found.append(rows_of(where, runs + ([] if stray is None else [(stray, stray + 1)])))
    return found
