"""Analyses of epochs, each against a page-by-page oracle of Python sets."""

import random

import numpy as np
import pytest

import iovabitmap as ib
import iovabitmap.analysis as an

BASE, PAGE = 0x7000_1000, 4096
SECOND = 1_000_000_000


def made(sets, *, npages=97, seconds=0.25, cut=100):
    """Bitmaps with times, whose last page is a part of one."""
    length = npages * PAGE - cut
    out = []
    for number, pages in enumerate(sets):
        bm = ib.IOVABitmap(BASE, length, PAGE)
        for page in pages:
            bm.set(BASE + page * PAGE, 1)
        start = 10 * SECOND + round(number * seconds * SECOND)
        out.append((bm, start, start + round(seconds * SECOND)))
    return out


def random_sets(rng, n, npages=97):
    """A hot part, a moving part, now and then nothing."""
    sets = []
    for number in range(n):
        hot = {page for page in range(10) if rng.random() < 0.8}
        moving = {(number * 3 + i) % npages for i in range(rng.randrange(6))}
        some = {rng.randrange(npages) for _ in range(rng.randrange(9))}
        sets.append(set() if rng.random() < 0.1 else hot | moving | some)
    return sets


@pytest.fixture(params=range(6))
def sets(request):
    rng = random.Random(request.param)
    return random_sets(rng, rng.choice([1, 2, 7, 30]))


def rows(pages, npages=97, cut=100):
    length = npages * PAGE - cut
    bm = ib.IOVABitmap(BASE, length, PAGE)
    bm.set_pages(np.array(sorted(pages), np.uint64) * np.uint64(PAGE) + np.uint64(BASE))
    return bm.ranges().tolist()


def test_dirty_rate_is_distinct_pages_over_the_whole_time(sets):
    log = made(sets)
    rate = an.dirty_rate(log)
    assert rate.pages == len(set.union(*sets))
    assert rate.seconds == pytest.approx(0.25 * len(sets))
    if len(sets) > 5:
        assert an.dirty_rate(log[2:5]).pages == len(set.union(*sets[2:5]))
        assert an.dirty_rate(log[2:5]).seconds == pytest.approx(0.75)


def test_volume_curve_is_the_mean_of_all_unions(sets):
    n = len(sets)
    curve = an.volume_curve(made(sets), epochs=range(1, n + 1))
    for k in range(1, n + 1):
        sizes = [PAGE * len(set.union(*sets[o : o + k])) for o in range(n - k + 1)]
        assert curve.seconds[k - 1] == pytest.approx(0.25 * k)
        assert curve.nbytes[k - 1] == pytest.approx(np.mean(sizes))
        assert curve.spread[k - 1] == pytest.approx(np.std(sizes), abs=1e-6)


def test_default_points_of_a_long_curve_end_with_the_whole_log():
    log = made([{n % 97} for n in range(300)])
    curve = an.volume_curve(log)
    assert curve.seconds[0] == 0.25 and curve.seconds[-1] == 75.0
    assert 40 <= len(curve.seconds) <= 90
    assert curve.nbytes[-1] == 97 * PAGE
    with pytest.raises(ValueError, match="from 1 to 300"):
        an.volume_curve(log, epochs=[301])


@pytest.mark.parametrize("at_least", [0.1, 0.5, 0.75, 1.0])
def test_hot_ranges_and_working_set(sets, at_least):
    log, n = made(sets), len(sets)
    hot = {p for p in range(97) if sum(p in s for s in sets) >= at_least * n - 1e-9}
    assert an.hot_ranges(log, at_least=at_least).tolist() == rows(hot)
    found = an.working_set(log, at_least=at_least)
    assert found.hot == PAGE * len(hot)
    assert found.union == PAGE * len(set.union(*sets))


def test_reuse(sets):
    pytest.importorskip("pandas")
    frame = an.reuse(made(sets))
    before, ever = set(), set()
    for number, pages in enumerate(sets):
        row = frame.loc[number]
        assert row["pages"] == len(pages)
        assert row["new"] == len(pages - before)
        assert row["again"] == len(pages & before)
        assert row["gone"] == len(before - pages)
        assert row["first"] == len(pages - ever)
        before, ever = pages, ever | pages


def test_amplification_counts_blocks(sets):
    factors = an.amplification(made(sets))
    total = sum(map(len, sets))
    assert next(iter(factors)) == PAGE and list(factors)[-1] == an.GIB
    for shift, (block, factor) in enumerate(factors.items()):
        assert block == PAGE << shift
        blocks = sum(len({page >> shift for page in pages}) for pages in sets)
        assert factor == pytest.approx(((blocks << shift) / total) if total else 1)


def test_amplification_of_a_bitmap_agrees_with_rescale():
    rng = np.random.default_rng(3)
    bm = ib.IOVABitmap(BASE, 40_000 * PAGE, PAGE)
    bm.set_pages(np.unique(rng.integers(0, 40_000, 900)).astype(np.uint64) * PAGE + BASE)
    for block, factor in an.amplification(bm).items():
        assert factor == pytest.approx(bm.rescale(block).count() * (block // PAGE) / bm.count())


def test_curve_between_and_beyond_the_points():
    curve = an.VolumeCurve([1, 2, 4], [100.0, 150.0, 170.0], total_bytes=200, page_size=1)
    assert [curve(t) for t in (0, 0.5, 1, 1.5, 2, 3, 4)] == [50, 75, 100, 125, 150, 160, 170]
    assert curve(6) == 190 and curve(7) == 200 and curve(100) == 200  # the last slope, and the cap
    steep = an.VolumeCurve([1, 2], [10.0, 100.0], total_bytes=1000, page_size=1)
    assert [steep(t) for t in (0, 0.5, 1)] == [0, 5, 10]  # not -80, and joined to the first
    flat = an.VolumeCurve([1, 2], [10.0, 10.0], total_bytes=1000, page_size=1)
    assert flat(1e9) == 10
    assert an.VolumeCurve([2], [10.0], total_bytes=1000)(1) == 5
    assert np.array_equal(curve(np.array([1, 2])), [100, 150])


@pytest.mark.parametrize(
    "seconds, nbytes, options, message",
    [
        ([], [], {}, "at least one point"),
        ([1, 1], [1, 2], {}, "point 1"),
        ([0, 1], [1, 2], {}, "point 0"),
        ([1, 2], [1, -2], {}, "point 1"),
        ([1, 2], [1, float("nan")], {}, "point 1"),
        ([1, 2], [1], {}, "one length"),
        ([1], [1], {"zero_bytes": 1001}, "at most total_bytes, not 1001 of 1000"),
    ],
)
def test_bad_points(seconds, nbytes, options, message):
    with pytest.raises(ValueError, match=message):
        an.VolumeCurve(seconds, nbytes, **{"total_bytes": 1000, **options})


MEMORY = 97 * PAGE - 100


def test_a_replay_agrees_with_the_prediction():
    """Pages written at random, recorded: the rounds of the real epochs are those of their curve."""
    rng = np.random.default_rng(1)
    npages, per_epoch, seconds = 20_000, 150, 0.1
    log = []
    for number in range(900):
        bm = ib.IOVABitmap(BASE, npages * PAGE, PAGE)
        pages = np.unique(rng.integers(0, npages, per_epoch)).astype(np.uint64)
        bm.set_pages(pages * np.uint64(PAGE) + np.uint64(BASE))
        start = round(number * seconds * SECOND)
        log.append((bm, start, start + round(seconds * SECOND)))
    options = {"bandwidth": npages * PAGE / 5.0, "downtime_limit": 0.5}
    options["memory_bytes"] = npages * PAGE
    replayed = an.replay_precopy(log, **options)
    predicted = an.predict_precopy(an.volume_curve(log), **options)
    assert replayed.converges and predicted.converges
    assert len(replayed.rounds) == len(predicted.rounds) >= 4
    for real, model in zip(replayed.rounds, predicted.rounds, strict=True):
        assert real.nbytes == pytest.approx(model.nbytes, rel=0.05, abs=40 * PAGE)
    assert replayed.total_seconds == pytest.approx(predicted.total_seconds, rel=0.03)


def test_a_replay_says_where_the_log_ends():
    log = made([{1, 2, 3}] * 4)
    found = an.replay_precopy(log, bandwidth=PAGE * 10.0, downtime_limit=0.01, memory_bytes=MEMORY)
    assert not found.converges
    assert "the log ends after 1 s" in found.why


def test_a_replayed_round_within_one_epoch_counts_its_part():
    log = made([set(range(40))], seconds=10.0, cut=0)
    found = an.replay_precopy(
        log,
        bandwidth=97 * PAGE / 2.5,
        downtime_limit=0.3,
        page_header=0,
        memory_bytes=MEMORY,
    )
    assert found.rounds[0].remaining_bytes == pytest.approx(10 * PAGE)  # a quarter of the epoch
    assert found.converges and len(found.rounds) == 2


def test_precopy_table_has_gaps_where_it_does_not_converge():
    pytest.importorskip("pandas")
    curve = an.VolumeCurve.saturating(1e9, 1e8, total_bytes=1 << 30)
    table = an.precopy_table(curve, [1e8, 1e9], [0.05, 0.2, 2.0], page_header=0)
    assert table.index.tolist() == [1e8, 1e9] and table.columns.tolist() == [0.05, 0.2, 2.0]
    assert table.isna().to_numpy().tolist() == [[True, True, False], [True, False, False]]
    want = an.predict_precopy(curve, bandwidth=1e9, downtime_limit=0.2, page_header=0)
    assert table.loc[1e9, 0.2] == want.total_seconds


def test_fit_of_a_saturating_curve():
    t = np.linspace(0.1, 5, 50)
    truth = np.minimum(3e7 * t, 6e7)
    fitted = an.fit_saturating(an.VolumeCurve(t, truth, total_bytes=1e9))
    assert fitted.rate == pytest.approx(3e7, rel=0.02)
    assert fitted.working_set == pytest.approx(6e7, rel=0.02)
    with pytest.raises(ValueError, match="nothing is dirty"):
        an.fit_saturating(an.VolumeCurve([1, 2], [0, 0], total_bytes=10))


def test_what_is_no_series():
    with pytest.raises(ValueError, match="no epoch"):
        an.dirty_rate([])
    log = made([{1}, {2}])
    with pytest.raises(ValueError, match="no epoch"):
        an.dirty_rate(log[1:1])
    with pytest.raises(ValueError, match="Geometry"):
        an.dirty_rate([*log, (ib.IOVABitmap(0, PAGE), 20 * SECOND, 21 * SECOND)])
    with pytest.raises(ValueError, match="epoch 1 starts at"):
        an.dirty_rate([log[1], log[0]])
    with pytest.raises(ValueError, match="at_least"):
        an.hot_ranges(log, at_least=0)
    with pytest.raises(ValueError, match="bandwidth"):
        an.predict_precopy(an.volume_curve(log), bandwidth=0, downtime_limit=1)
