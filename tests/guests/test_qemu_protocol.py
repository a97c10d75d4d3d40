"""What is asked of QEMU's monitor, and what is made of what it says: by one who plays QEMU."""

from __future__ import annotations

import doctest
import importlib
import sys

import pytest

from iovabitmap.analysis import DirtyRate, Round, stalled
from iovabitmap.qemu import (
    MODES,
    DirtyRateMeter,
    Kvm,
    Migration,
    MigrationError,
    MigrationStatistics,
    ModeRefusedError,
    Monitor,
    QemuDirtyRate,
    QemuError,
)
from support.fake_qmp import FakeQemu, HangUp, Refusal

pytest.importorskip("qemu.qmp")

TCG = {"query-kvm": {"enabled": False, "present": True}}
KVM = {"query-kvm": {"enabled": True, "present": True}}
MEASURED = {"status": "measured", "dirty-rate": 37, "start-time": 100, "calc-time": 2}
MIB = 1 << 20


@pytest.fixture
def qemu(tmp_path):
    """Makes a fake QEMU of answers, and a Monitor on it."""
    opened = []

    def make(answers, **options):
        fake = FakeQemu(tmp_path / "q", answers, **options).__enter__()
        opened.append(fake)
        monitor = Monitor(fake.path, timeout=20)
        opened.append(monitor)
        return fake, monitor

    yield make
    for each in reversed(opened):
        each.__exit__(None, None, None)


def refuse(words):
    def answer(fake, arguments):
        raise Refusal(words)

    return answer


def hang_up(fake, arguments):
    raise HangUp


# --- the connection -------------------------------------------------------------------------------


def test_version_and_kvm(qemu):
    _, monitor = qemu(TCG, version=(9, 1, 2))
    assert monitor.version == (9, 1, 2)
    assert monitor.kvm == Kvm(present=True, enabled=False)


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({}, {"bps_rd": 5, "device": "disk"}),
        ({"max-bandwidth": 5}, {}),
        ({"x-rx_queue": 1, "a-b": 2}, {"c_d": 3}),
        ({"command": 1, "arguments": 2}, {"self": 3}),
        ({}, {"command": 1, "arguments": 2, "self": 3}),
        ({}, {}),
    ],
)
def test_names_of_arguments_are_sent_as_they_are(qemu, arguments, named):
    fake, monitor = qemu({"set": {"x": 1}})
    assert monitor.execute("set", arguments, **named) == {"x": 1}
    assert fake.asked[-1] == ("set", arguments | named)
    assert monitor.execute("set", **arguments, **named) == {"x": 1}
    assert fake.asked[-1] == ("set", arguments | named)


def test_an_argument_given_twice(qemu):
    fake, monitor = qemu({"set": {}})
    with pytest.raises(ValueError, match="set: given twice: a_b, x"):
        monitor.execute("set", {"a_b": 1, "x": 2, "y": 3}, a_b=1, x=3)
    assert "set" not in fake.commands()


def test_a_refusal_has_qemus_words(qemu):
    _, monitor = qemu({"no": refuse("not on a Sunday"), "yes": {}})
    with pytest.raises(QemuError, match="no: not on a Sunday"):
        monitor.execute("no")
    assert monitor.execute("yes") == {}


def test_a_qemu_that_ends_in_a_command(qemu):
    _, monitor = qemu({"crash": hang_up})
    with pytest.raises(ConnectionError, match="did not answer crash"):
        monitor.execute("crash")
    with pytest.raises(ConnectionError, match="did not answer query-status"):
        monitor.execute("query-status")


def test_nobody_listens(tmp_path):
    with pytest.raises(ConnectionError, match="no QMP at"):
        Monitor(tmp_path / "none")


def test_after_close(qemu):
    _, monitor = qemu({})
    monitor.close()
    monitor.close()
    with pytest.raises(ConnectionError, match="closed"):
        monitor.execute("query-status")


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    with pytest.raises(ImportError, match=r"pip install 'iovabitmap\[qemu\]'"):
        Monitor(tmp_path / "q")


# --- dirty rates ----------------------------------------------------------------------------------


def test_page_sampling(qemu):
    """It waits while QEMU measures, and asks nothing about KVM."""
    progress = iter([{"status": "unstarted"}, {"status": "measuring"}])
    measured = {**MEASURED, "mode": "page-sampling", "sample-pages": 1024}
    answers = {
        "calc-dirty-rate": {},
        "query-dirty-rate": lambda fake, arguments: next(progress, measured),
    }
    fake, monitor = qemu(answers)
    found = DirtyRateMeter(monitor).measure(2, sample_pages_per_gib=1024)
    assert found == QemuDirtyRate("page-sampling", 37, 2.0, sample_pages_per_gib=1024)
    assert found.bytes_per_s == 37 * MIB
    asked = {"calc-time": 2, "mode": "page-sampling", "sample-pages": 1024}
    assert fake.asked[1] == ("calc-dirty-rate", asked)
    assert fake.commands() == ["calc-dirty-rate", *["query-dirty-rate"] * 3]


@pytest.mark.parametrize("mode", ["dirty-bitmap", "dirty-ring"])
def test_what_would_kill_the_guest_is_not_asked(qemu, mode):
    fake, monitor = qemu(TCG)
    with pytest.raises(ModeRefusedError, match="needs KVM"):
        DirtyRateMeter(monitor).measure(1, mode)
    assert fake.commands() == ["query-kvm"]


def test_the_ring_with_kvm_tells_each_cpu(qemu):
    cpus = [{"id": 0, "dirty-rate": 30}, {"id": 1, "dirty-rate": 7}]
    found = {**MEASURED, "mode": "dirty-ring", "sample-pages": 0, "vcpu-dirty-rate": cpus}
    fake, monitor = qemu({**KVM, "calc-dirty-rate": {}, "query-dirty-rate": found})
    assert DirtyRateMeter(monitor).measure(2, "dirty-ring") == QemuDirtyRate(
        "dirty-ring", 37, 2.0, vcpu_mib_per_s={0: 30, 1: 7}
    )
    assert fake.asked[2] == ("calc-dirty-rate", {"calc-time": 2, "mode": "dirty-ring"})


def test_milliseconds_where_qemu_takes_them(qemu):
    found = {**MEASURED, "mode": "dirty-bitmap", "calc-time": 250, "calc-time-unit": "millisecond"}
    answers = {**KVM, "calc-dirty-rate": {}, "query-dirty-rate": found}
    fake, monitor = qemu(answers, version=(8, 2, 0))
    assert DirtyRateMeter(monitor).measure(0.25, "dirty-bitmap").seconds == 0.25
    assert fake.asked[2][1]["calc-time"] == 250
    assert fake.asked[2][1]["calc-time-unit"] == "millisecond"
    assert fake.asked[3][1] == {"calc-time-unit": "millisecond"}


def test_milliseconds_where_it_does_not(qemu):
    fake, monitor = qemu({}, version=(8, 1, 9))
    with pytest.raises(QemuError, match=r"before 8\.2 takes whole seconds"):
        DirtyRateMeter(monitor).start(0.25)
    assert fake.commands() == []


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, 1.00005])
def test_bad_seconds(qemu, seconds):
    _, monitor = qemu({}, version=(9, 0, 0))
    with pytest.raises(ValueError, match="whole milliseconds"):
        DirtyRateMeter(monitor).start(seconds)


def test_bad_mode(qemu):
    _, monitor = qemu({})
    with pytest.raises(ValueError, match="page-sampling, dirty-ring, dirty-bitmap"):
        DirtyRateMeter(monitor).start(1, "sampling")


def test_no_result_yet(qemu):
    _, monitor = qemu({"query-dirty-rate": {"status": "unstarted"}})
    assert DirtyRateMeter(monitor).result() is None


@pytest.mark.parametrize("ms", [100, 300, 750, 1000, 2000, 7000])
@pytest.mark.parametrize("pages", [0, 255, 256, 25600, 123456])
def test_a_rate_converts_to_the_analysis_and_back(ms, pages):
    """What QEMU would print of it is the same number again."""
    printed = DirtyRate(pages, 4096, ms / 1000).as_qemu()
    found = QemuDirtyRate("dirty-bitmap", printed, ms / 1000).as_dirty_rate()
    assert found.as_qemu() == printed
    assert 0 <= pages - found.pages < 256 * (1 + ms / 1000)  # two divisions lose that much


def test_relative_error():
    """512 samples per GiB at 1 % dirty: 44 % on 1 GiB, 22 % on 4 GiB."""
    for gib, expected in ((1, 0.44), (4, 0.22)):
        rate = QemuDirtyRate("page-sampling", round(10.24 * gib), 1.0, sample_pages_per_gib=512)
        assert rate.relative_error(gib << 30) == pytest.approx(expected, rel=0.03)
    assert QemuDirtyRate("dirty-bitmap", 10, 1.0).relative_error(1 << 30) == 0
    assert QemuDirtyRate("page-sampling", 0, 1.0, 512).relative_error(1 << 30) == float("inf")
    assert MODES == ("page-sampling", "dirty-ring", "dirty-bitmap")


# --- migrations -----------------------------------------------------------------------------------


def ram(sync, transferred, remaining, **more):
    found = {"dirty-sync-count": sync, "transferred": transferred, "remaining": remaining}
    return {**found, "total": 1000 * MIB, "page-size": 4096, "dirty-pages-rate": 0, **more}


class Script:
    """A migration that goes as it is written: (event's time in ms, pass or status, statistics)."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.found = {"status": "none"}

    def answers(self):
        fine = {"migrate-set-capabilities": {}, "migrate-set-parameters": {}, "migrate_cancel": {}}
        return {**fine, "migrate": self.go, "query-migrate": self.query}

    def go(self, fake, arguments):
        """The next event; the statistics asked for at it are its own."""
        if self.steps:
            at_ms, what, self.found = self.steps.pop(0)
            if isinstance(what, int):
                fake.event("MIGRATION_PASS", at_ms, **{"pass": what})
            else:
                fake.event("MIGRATION", at_ms, status=what)
        return {}

    def query(self, fake, arguments):
        found = self.found
        self.go(fake, arguments)
        return found


def active(sync, transferred, remaining, **more):
    return {"status": "active", "total-time": 5, "ram": ram(sync, transferred, remaining, **more)}


def completed(sync, transferred, downtime_bytes):
    found = {"status": "completed", "total-time": 3600, "downtime": 80, "setup-time": 2}
    return {**found, "ram": ram(sync, transferred, 0, **{"downtime-bytes": downtime_bytes})}


def follow(qemu, *steps):
    fake, monitor = qemu(Script(*steps).answers())
    with Migration(monitor) as migration:
        migration.start("/m", bandwidth_bytes_per_s=1e8, downtime_seconds=0.3)
        return fake, list(migration.follow(timeout=20))


def test_rounds(qemu):
    """Times are those of the events; the last pass, of which nobody could ask, ends a round too."""
    fake, rounds = follow(
        qemu,
        (10_000, 1, active(1, 0, 1000 * MIB)),
        (12_000, 2, active(2, 900 * MIB, 200 * MIB, **{"dirty-pages-rate": 25600})),
        (12_500, 3, active(3, 1100 * MIB, 50 * MIB)),
        (12_900, 4, completed(4, 1157 * MIB, 7 * MIB)),
        (13_000, "completed", completed(4, 1157 * MIB, 7 * MIB)),
    )
    assert [each.as_round() for each in rounds] == [
        Round(900.0 * MIB, 2.0, 200.0 * MIB),
        Round(200.0 * MIB, 0.5, 50.0 * MIB),
        Round(50.0 * MIB, pytest.approx(0.4), 7.0 * MIB),
        Round(7.0 * MIB, 0.08, 0.0),
    ]
    assert [each.number for each in rounds] == [0, 1, 2, 3]
    assert [each.last for each in rounds] == [False, False, False, True]
    assert {each.passes for each in rounds} == {1}
    assert rounds[0].bytes_per_s == 450 * MIB
    assert rounds[0].as_dirty_rate() == DirtyRate(51200, 4096, 2.0)
    assert rounds[0].statistics.as_dirty_rate() == DirtyRate(25600, 4096, 1.0)
    assert rounds[1].statistics.as_dirty_rate() is None
    limits = {"max-bandwidth": 100_000_000, "downtime-limit": 300}
    assert ("migrate-set-parameters", limits) in fake.asked
    assert ("migrate", {"uri": "unix:/m"}) in fake.asked
    events = {"capabilities": [{"capability": "events", "state": True}]}
    assert ("migrate-set-capabilities", events) in fake.asked


def test_passes_that_come_too_fast_are_one_round(qemu):
    """The statistics at pass 2 are those of pass 3 already: they belong to no end of a round."""
    _, rounds = follow(
        qemu,
        (1_000, 1, active(1, 0, 1000 * MIB)),
        (2_000, 2, active(3, 950 * MIB, 60 * MIB)),
        (2_001, 3, active(3, 960 * MIB, 50 * MIB)),
        (2_500, "completed", completed(3, 1010 * MIB, 0)),
    )
    assert [(each.number, each.passes) for each in rounds] == [(0, 2), (2, 1)]
    assert rounds[0].nbytes + rounds[1].nbytes == 1010 * MIB


def test_followed_from_a_later_round_on(qemu):
    _, rounds = follow(
        qemu,
        (1_000, 5, active(5, 5000 * MIB, 100 * MIB)),
        (2_000, 6, active(6, 5100 * MIB, 90 * MIB)),
        (2_500, "completed", completed(6, 5190 * MIB, 0)),
    )
    assert [(each.number, each.nbytes) for each in rounds] == [(4, 100 * MIB), (5, 90 * MIB)]


def test_a_migration_that_fails(qemu):
    failed = {"status": "failed", "error-desc": "the wire was cut"}
    with pytest.raises(MigrationError, match="the wire was cut"):
        follow(qemu, (1, 1, active(1, 0, 9)), (2, "failed", failed))


def test_a_migration_that_is_cancelled(qemu):
    script = Script((1, 1, active(1, 0, 9)), (3, "cancelled", {"status": "cancelled"}))
    fake, monitor = qemu(script.answers())
    with Migration(monitor) as migration:
        migration.start("/m")
        migration.cancel()
        assert list(migration.follow(timeout=20)) == []
    assert "migrate_cancel" in fake.commands()


def test_qemu_ends_meanwhile(qemu):
    answers = Script((1, 1, active(1, 0, 9))).answers() | {"query-migrate": hang_up}
    _, monitor = qemu(answers)
    with Migration(monitor) as migration:
        migration.start("/m")
        with pytest.raises(ConnectionError, match="QEMU is gone"):
            list(migration.follow(timeout=20))
        with pytest.raises(ConnectionError, match="sends no events"):
            list(migration.follow(timeout=20))


def test_no_event_in_time(qemu):
    _, monitor = qemu(Script().answers())
    with Migration(monitor) as migration:
        migration.start("/m")
        with pytest.raises(TimeoutError):
            next(migration.follow(timeout=0.01))


def test_followed_only_within_with(qemu):
    _, monitor = qemu({})
    with pytest.raises(RuntimeError, match="within `with`"):
        next(Migration(monitor).follow())


def test_statistics_have_units():
    found = completed(4, 1157, 7) | {"expected-downtime": 90}
    found["ram"] |= {"mbps": 800.0, "normal": 3, "duplicate": 5, "pages-per-second": 11}
    statistics = MigrationStatistics.from_qmp(found)
    assert statistics.ended
    assert (statistics.total_seconds, statistics.setup_seconds) == (3.6, 0.002)
    assert (statistics.downtime_seconds, statistics.expected_downtime_seconds) == (0.08, 0.09)
    assert (statistics.transferred_bytes, statistics.downtime_bytes) == (1157, 7)
    assert (statistics.normal_pages, statistics.zero_pages, statistics.pages_per_s) == (3, 5, 11)
    assert statistics.bandwidth_bytes_per_s == 100e6
    assert MigrationStatistics.from_qmp({}) == MigrationStatistics("none")


def test_records_for_the_stall_test(qemu):
    """Rounds are what `analysis.stalled` judges."""
    steps = [(n * 1000, n, active(n, n * 10 * MIB, 100 * MIB)) for n in range(1, 8)]
    _, rounds = follow(qemu, *steps, (9000, "completed", completed(7, 80 * MIB, 0)))
    times = [sum(each.seconds for each in rounds[: n + 1]) for n in range(6)]
    records = list(zip(times, [each.remaining_bytes for each in rounds[:6]], strict=True))
    assert stalled(records, timeout=3)


@pytest.mark.parametrize("name", ["dirty_rate", "statistics"])
def test_docstrings(name):
    module = importlib.import_module(f"iovabitmap.qemu.{name}")
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted > 0
