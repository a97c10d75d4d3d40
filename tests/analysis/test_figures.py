"""Figures that others published, and closed forms: each must come out."""

import math

import pytest

import iovabitmap.analysis as an

UNIFORM_MS = (100, 200, 300, 400, 500, 750, 1000, 1500, 2000)
UNIFORM = {
    1: (6996, 4606, 3305, 2534, 2041, 1365, 1024, 683, 512),
    4: (10232, 8954, 7889, 6996, 6245, 4829, 3865, 2694, 2041),
    24: (11495, 11226, 10965, 10713, 10469, 9890, 9354, 8397, 7574),
}


@pytest.mark.parametrize("gib", UNIFORM)
def test_rates_of_uniform_random_writes(gib):
    for ms, published in zip(UNIFORM_MS, UNIFORM[gib], strict=True):
        volume = an.uniform_volume(ms / 1e3, total_bytes=gib * an.GIB, writes_per_s=3.0e6)
        assert volume / (ms / 1e3) / an.MIB == pytest.approx(published, rel=5e-3), ms


def test_uniform_writes_at_the_edges():
    assert an.uniform_volume(0, total_bytes=4096, writes_per_s=5) == 0
    assert an.uniform_volume(1, total_bytes=4096, writes_per_s=5) == 4096
    assert list(an.uniform_volume([0, 1e9], total_bytes=1 << 30, writes_per_s=1e6)) == [0, 1 << 30]
    with pytest.raises(ValueError, match="page_size must be at most total"):
        an.uniform_volume(1, total_bytes=100, writes_per_s=1)


@pytest.mark.parametrize(
    "k, p, factor",
    [
        (16, 1e-3, 15.88),
        (16, 1e-2, 14.85),
        (16, 1e-1, 8.15),
        (512, 1e-4, 499.14),
        (512, 1e-3, 400.86),
        (512, 1e-2, 99.42),
        (512, 1e-1, 10.0),
    ],
)
def test_amplification_of_independent_pages(k, p, factor):
    assert round(an.expected_amplification(k, p), 2) == factor


@pytest.mark.parametrize("gib, percent", [(1, 44), (4, 22), (32, 7.8)])
def test_error_of_512_samples_per_gib_at_one_percent(gib, percent):
    assert 100 * an.sampling_error(0.01, 512 * gib) == pytest.approx(percent, rel=0.01)


def test_as_qemu_prints_it():
    rate = an.DirtyRate(pages=1023, page_size=4096, seconds=1.0)
    assert rate.as_qemu() == 3  # 3.996 MiB: the first division comes before the time
    assert an.DirtyRate(255, 4096, 0.001).as_qemu() == 0
    assert an.DirtyRate(256, 4096, 0.3).as_qemu() == 3
    assert an.DirtyRate(1000, 4096, 0.3).as_qemu_migration() == 3333
    assert an.DirtyRate(512, 4096, 0.5).as_qemu() == 4
    assert rate.mib_per_s == pytest.approx(3.99609375)
    assert "within 1 s" in repr(rate)


def test_precopy_at_a_constant_rate():
    """50 GiB at 800 Mbit/s, 200 Mbit/s dirty, limit 300 ms: seven rounds, 715.784192 s."""
    memory, bandwidth, limit = 50 * an.GIB, an.mbit_per_s(800), 0.3
    curve = an.VolumeCurve.constant(an.mbit_per_s(200), total_bytes=memory)
    found = an.predict_precopy(curve, bandwidth=bandwidth, downtime_limit=limit, page_header=0)
    n = math.ceil(math.log(bandwidth * limit / memory) / math.log(0.25))
    assert (found.converges, n, len(found.rounds)) == (True, 6, 7)
    assert found.total_seconds == pytest.approx(715.784192, abs=1e-6)
    for i, part in enumerate(found.rounds):
        assert part.nbytes == pytest.approx(memory * 0.25**i)
        assert part.seconds == pytest.approx(part.nbytes / bandwidth)
    assert found.downtime_seconds == found.rounds[-1].seconds <= limit
    assert found.rounds[-1].remaining_bytes == 0


@pytest.mark.parametrize("rate", [2e8, 1e9, 5e9])
@pytest.mark.parametrize("factor", [0.5, 0.999, 1.0, 1.001, 3])
def test_a_working_set_converges_if_and_only_if_it_fits_the_downtime(rate, factor):
    """Even where the rate is above the bandwidth of 10**8 bytes per second."""
    bandwidth, limit = 1e8, 0.5
    curve = an.VolumeCurve.saturating(rate, bandwidth * limit * factor, total_bytes=8 * an.GIB)
    found = an.predict_precopy(curve, bandwidth=bandwidth, downtime_limit=limit, page_header=0)
    assert found.converges is (factor <= 1)
    if not found.converges:
        assert found.total_seconds > 3600
        assert found.downtime_seconds == pytest.approx(limit * factor)
        assert "500 ms" in found.why


def test_headers_and_zero_pages():
    """(page + 8) bytes for each page, 8 for one of zeros, those in round 0 only."""
    curve = an.VolumeCurve([1.0], [40960.0], total_bytes=100 * 4096, zero_bytes=30 * 4096)
    found = an.predict_precopy(curve, bandwidth=4104.0 * 10, downtime_limit=1.0)
    assert found.rounds[0].nbytes == pytest.approx(70 * 4104 + 30 * 8)
    assert found.rounds[0].remaining_bytes == pytest.approx(70 * 4096)  # all that is not zero
    assert found.rounds[1].nbytes == pytest.approx(70 * 4104)


CLOUD_MIB = (6144, 5418, 5418, 5428)
CLOUD_BANDWIDTHS = (1986.83, 1824.44, 1854.25)


def test_estimates_as_cloud_hypervisor_logs_them():
    for nbytes, bandwidth, ms in zip(
        CLOUD_MIB[1:], CLOUD_BANDWIDTHS, (2726, 2969, 2926), strict=True
    ):
        estimate = an.estimate_downtime(nbytes * an.MIB, an.mib_per_s(bandwidth))
        assert estimate * 1e3 == pytest.approx(ms, abs=2)


@pytest.mark.parametrize(
    "nbytes, seconds",
    [(31.25e6, 0.5), (62.5e6, 1), (125e6, 2), (250e6, 4), (625e6, 10), (3.75e9, 60)],
)
def test_remaining_to_downtime_at_500_mbit_per_s(nbytes, seconds):
    assert an.estimate_downtime(nbytes, an.mbit_per_s(500)) == pytest.approx(seconds)


def test_stalled_as_kubevirt_says():
    falling = [(t, 1e9 - t * 1e7) for t in range(60)]
    assert not an.stalled(falling, timeout=10)
    flat = [(t, 1e9) for t in range(60)]
    assert an.stalled(flat, timeout=10)
    assert not an.stalled(flat, timeout=100)  # none is that old
    slow = [(0, 1000.0), (20, 961.0)]
    assert an.stalled(slow, timeout=10)  # less than 4 % got on
    assert not an.stalled([(0, 1000.0), (20, 959.0)], timeout=10)
    assert an.stalled([(0, 1000.0), (20, 960.0)], timeout=10)
    assert an.smoothed([100.0, 200.0, 50.0]) == pytest.approx([100.0, 140.0, 104.0])


def test_bandwidth_units():
    assert an.gbit_per_s(1) == 10**9 / 8
    assert an.mib_per_s(1) == 2**20
