"""Curves: rebuilt from their attributes, and where the rounds of a pre-copy settle."""

import math
import pickle
import random

import numpy as np
import pytest

import iovabitmap as ib
import iovabitmap.analysis as an

PAGE = 4096
GIB = 1 << 30
SECOND = 1_000_000_000

CURVES = {
    "measured": an.VolumeCurve(
        [0.1, 0.2, 0.7],
        [3e6, 4e6, 9e6],
        total_bytes=GIB,
        zero_bytes=1 << 20,
        page_size=8192,
        spread=[1, 2, 3],
    ),
    "of unknown memory": an.VolumeCurve([0.1, 0.2], [3e6, 4e6], total_bytes=None),
    "constant": an.VolumeCurve.constant(123_456.789, total_bytes=GIB, zero_bytes=5, page_size=512),
    "constant 0": an.VolumeCurve.constant(0, total_bytes=1),
    "saturating": an.VolumeCurve.saturating(3e8 / 7, 1e8 / 3, total_bytes=GIB, zero_bytes=PAGE),
    "fitted": an.fit_saturating(
        an.VolumeCurve(
            [1, 2, 3], [1e6, 2.1e6, 2.2e6], total_bytes=GIB, zero_bytes=7, page_size=1024
        )
    ),
}
TIMES = np.array([0, 1e-9, 0.05, 0.1, 0.15, 1 / 3, 0.7, 1, 2.5, 77, 1e6])


def same(a, b):
    assert a(TIMES).tolist() == b(TIMES).tolist()
    assert (a.total_bytes, a.zero_bytes, a.page_size) == (b.total_bytes, b.zero_bytes, b.page_size)
    assert a.cap == b.cap and a.spread.tolist() == b.spread.tolist()


@pytest.mark.parametrize("name", CURVES)
def test_any_curve_is_made_again_of_its_points(name):
    curve = CURVES[name]
    about = {n: getattr(curve, n) for n in ("total_bytes", "zero_bytes", "page_size", "spread")}
    same(an.VolumeCurve(curve.seconds, curve.nbytes, **about), curve)
    same(pickle.loads(pickle.dumps(curve)), curve)


@pytest.mark.parametrize("name", ["constant", "constant 0", "saturating", "fitted"])
def test_curves_of_parameters_are_made_again_of_those(name):
    curve = CURVES[name]
    about = {n: getattr(curve, n) for n in ("total_bytes", "zero_bytes", "page_size")}
    if isinstance(curve, an.ConstantCurve):
        again = type(curve).constant(curve.rate, **about)
        assert again.rate == curve.rate
    else:
        again = type(curve).saturating(curve.rate, curve.working_set, **about)
        assert (again.rate, again.working_set) == (curve.rate, curve.working_set)
    same(again, curve)
    assert type(again) is type(curve)


def test_every_curve_makes_the_others():
    """Also from a fitted one: what it makes has the attributes of its kind."""
    fitted = CURVES["fitted"]
    assert fitted.constant(5.0, total_bytes=10).rate == 5.0
    assert fitted.saturating(5.0, 2.0, total_bytes=10).working_set == 2.0


def test_a_saturating_curve_begins_at_nothing():
    rng = random.Random(1)
    for _ in range(200):
        rate, most = 10 ** rng.uniform(-3, 12), 10 ** rng.uniform(-3, 12)
        curve = an.VolumeCurve.saturating(rate, most, total_bytes=None)
        assert curve(0) == 0 and curve(most / rate / 3) == pytest.approx(most / 3)
        assert curve(most / rate * 5) == pytest.approx(most)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: an.VolumeCurve.constant(-1, total_bytes=1), "rate must be 0 or more.*not -1"),
        (lambda: an.VolumeCurve.constant(math.nan, total_bytes=1), "rate must be 0 or more.*nan"),
        (lambda: an.VolumeCurve.saturating(0, 1, total_bytes=1), "rate must be above 0"),
        (
            lambda: an.VolumeCurve.saturating(1, 2, total_bytes=1),
            "at most total_bytes=1, not 1 and",
        ),
        (lambda: an.VolumeCurve.saturating(1, math.inf, total_bytes=None), "not 1 and inf"),
        (lambda: an.VolumeCurve.constant(1, total_bytes=0), "total_bytes must be above 0"),
        (lambda: an.VolumeCurve.constant(1, total_bytes=None, zero_bytes=-1), "not -1 of None"),
        (
            lambda: an.VolumeCurve.constant(1, total_bytes=1, zero_bytes=2),
            "at most total_bytes, not 2 of 1",
        ),
    ],
)
def test_curves_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- where rounds settle -------------------------------------------------------------------------


def by_rounds(curve, bandwidth, limit=3_000_000):
    """The same by counting rounds, until they change no more."""
    volume = curve.cap
    for _ in range(limit):
        left = curve(volume / bandwidth)
        if abs(left - volume) <= 1e-13 * max(volume, 1):
            return left
        volume = left
    raise AssertionError(f"no end after {limit} rounds")


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.995, 0.999999])
@pytest.mark.parametrize("total", [16 * GIB, None])
def test_a_constant_rate_below_the_bandwidth_ends(ratio, total):
    """At D/B = 0.995 a thousand rounds leave 114 MB of 16 GiB: they are not all."""
    curve = an.VolumeCurve.constant(1e9 * ratio, total_bytes=total)
    assert an.plateau(curve, bandwidth=1e9) == 0


@pytest.mark.parametrize("ratio", [1, 1.000001, 2])
def test_a_constant_rate_from_the_bandwidth_on_never_ends(ratio):
    curve = an.VolumeCurve.constant(1e9 * ratio, total_bytes=16 * GIB, zero_bytes=GIB)
    assert an.plateau(curve, bandwidth=1e9) == 15 * GIB
    curve = an.VolumeCurve.constant(1e9 * ratio, total_bytes=None)
    assert an.plateau(curve, bandwidth=1e9) == math.inf


@pytest.mark.parametrize("rate, left", [(2e9, 3e8), (1.000001e9, 3e8), (0.99e9, 0)])
@pytest.mark.parametrize("total", [16 * GIB, None])
def test_a_working_set_is_left_if_it_is_written_faster(rate, left, total):
    curve = an.VolumeCurve.saturating(rate, 3e8, total_bytes=total)
    assert an.plateau(curve, bandwidth=1e9) == pytest.approx(left, rel=1e-9)


def test_plateaus_are_what_rounds_come_to():
    """On random curves that never fall, of which some grow by leaps."""
    rng = random.Random(2)
    for _ in range(300):
        points = rng.randint(1, 6)
        seconds = np.cumsum([rng.uniform(0.01, 1) for _ in range(points)])
        nbytes = np.cumsum([rng.choice([0, rng.uniform(0, 1e8)]) for _ in range(points)])
        total = rng.uniform(1e7, 5e8)
        curve = an.VolumeCurve(seconds, nbytes, total_bytes=total, page_size=1)
        bandwidth = rng.choice([1e7, 5e7, 2e8, 1e9])
        expected = by_rounds(curve, bandwidth)
        found = an.plateau(curve, bandwidth=bandwidth)
        assert found == pytest.approx(expected, rel=1e-6, abs=1), (seconds, nbytes, total)


def recorded(sets, npages=97, seconds=1.0):
    log = []
    for number, pages in enumerate(sets):
        bm = ib.IOVABitmap(0, npages * PAGE - 100, PAGE)
        bm.set_pages([page * PAGE for page in pages])
        start = round(number * seconds * SECOND)
        log.append((bm, start, start + round(seconds * SECOND)))
    return log


def test_the_plateau_of_a_recording():
    """A working set of 40 pages written over and over, beside which nothing is dirty."""
    log = recorded([range(40)] * 8)
    assert an.working_set(log, bandwidth=PAGE * 10).plateau == pytest.approx(40 * PAGE)
    falling = recorded([{n} for n in range(40)])  # each page once: 10 rounds a second
    assert an.working_set(falling, bandwidth=PAGE * 10).plateau == 0
    found = an.working_set(falling, bandwidth=PAGE * 0.1, memory_bytes=97 * PAGE - 100)
    assert found.plateau == 97 * PAGE  # it goes on, and a page is dirty as a whole
    found = an.working_set(falling, bandwidth=PAGE * 0.1)
    assert found.plateau == math.inf and "plateau all memory" in repr(found)
    assert "all memory" in found._repr_html_()
