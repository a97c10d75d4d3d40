"""Curves of epochs that overlap, or take no time: a union lasts until the last of its ends."""

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an

S = 10**9


def curve(*times):
    bm = ib.IOVABitmap.from_text("1", 0, 1 << 16, 4096)
    return an.volume_curve([(bm, start * S, end * S) for start, end in times])


@pytest.mark.parametrize(
    "times, seconds",
    [
        ([(0, 100), (1, 2)], [50.5, 100]),
        ([(0, 9), (1, 2), (3, 4), (5, 12)], [4.5, 7, 10, 12]),
        ([(0, 0), (0, 100), (100, 100)], [100 / 3, 100]),
        ([(0, 0), (0, 0), (0, 6)], [2, 3, 6]),
    ],
)
def test_times_of_unions(times, seconds):
    assert curve(*times).seconds.tolist() == pytest.approx(seconds)


def test_no_time_at_all_has_no_curve():
    with pytest.raises(ValueError, match="the epochs take no time"):
        curve((5, 5), (5, 5))
