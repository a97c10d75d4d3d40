"""An answer is of pages and the times between them: not of where, when or what they are from."""

import contextlib
import random

import numpy as np
import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from iovabitmap.analysis import pieces
from support.logs import needs

PAGE = 4096
NPAGES = 60
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
LINK = {"bandwidth": PAGE * 30.0, "downtime_limit": 0.3, "max_total_seconds": 60.0}
MEMORY = {"memory_bytes": NPAGES * PAGE, "zero_bytes": 3 * PAGE}


def epochs(seed):
    rng = random.Random(seed)
    return [[rng.randrange(NPAGES) for _ in range(rng.randrange(12))] for _ in range(20)]


def bitmaps(sets, iova=0, start=0):
    log = []
    for number, pages in enumerate(sets):
        bm = ib.IOVABitmap(iova, NPAGES * PAGE - 7, PAGE)
        bm.set_pages([iova + page * PAGE for page in pages])
        begin = start + number * SECOND // 3
        log.append((bm, begin, begin + SECOND // 3))
    return log


def log_of(path, timed):
    needs("pyarrow")
    bm = timed[0][0]
    with ib.LogWriter(path, bm) as log:
        for each in timed:
            log.append(*each)
    return ib.DirtyLog.open(path)


def answers(source, iova=0):
    """Everything that can be asked, as plain values."""
    curve = an.volume_curve(source, **MEMORY)
    rows = an.hot_ranges(source, at_least=0.1) - np.array([[iova, 0]], np.uint64)
    found = [
        an.dirty_rate(source),
        an.working_set(source, at_least=0.2, bandwidth=LINK["bandwidth"], **MEMORY),
        an.amplification(source),
        rows.tolist(),
        (curve.seconds.tolist(), curve.nbytes.tolist(), curve.spread.tolist()),
        an.predict_precopy(curve, **LINK),
        an.replay_precopy(source, **LINK, **MEMORY),
        an.plateau(curve, bandwidth=LINK["bandwidth"]),
    ]
    with contextlib.suppress(ImportError):
        found.append(an.reuse(source).to_dict("list"))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "iova, start", [(1 << 40, 0), (0, DAY), (1 << 40, 400 * DAY), (2**64 - NPAGES * PAGE, -DAY)]
)
def test_elsewhere_and_another_day(seed, iova, start):
    sets = epochs(seed)
    assert answers(bitmaps(sets, iova, start), iova) == answers(bitmaps(sets))


@pytest.mark.parametrize("seed", range(4))
def test_a_log_says_what_its_bitmaps_say(tmp_path, seed):
    timed = bitmaps(epochs(seed), 1 << 40, DAY)
    with log_of(tmp_path / "a.parquet", timed) as log:
        assert answers(log, 1 << 40) == answers(timed, 1 << 40)
        assert an.dirty_rate(log[3:9]) == an.dirty_rate(timed[3:9])
        assert answers([(e.bitmap(), e.t_start_ns, e.t_end_ns) for e in log], 1 << 40) == answers(
            log, 1 << 40
        )


@pytest.mark.parametrize("seed", range(4))
def test_few_runs_and_many_give_one_answer(monkeypatch, seed):
    """Ends of runs are sorted, or looked up in an array of all pages, whichever is cheaper."""
    timed = bitmaps(epochs(seed))
    found = []
    for dense in (0, 1 << 40):
        monkeypatch.setattr(pieces, "DENSE", dense)
        found.append(answers(timed))
    assert found[0] == found[1]
