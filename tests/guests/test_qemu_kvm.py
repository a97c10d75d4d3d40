"""What QEMU can only do on KVM: its modes that read KVM's log; and a tracker beside it.

`make kernel-lab` runs these, in an emulated machine: its KVM is the kernel's own, and complete.
"""

from __future__ import annotations

import os
import select
import shutil
import time

import pytest

from iovabitmap.analysis import DirtyRate
from iovabitmap.qemu import DirtyRateMeter, Kvm, QemuError
from iovabitmap.sources import CommandTracker, GuestRam
from support import guest_program, programs
from support.qemu_pair import TRUTH, Writing, command, connected, pages, running

pytest.importorskip("qemu.qmp")
pytestmark = [
    pytest.mark.skipif("IOVABITMAP_QEMU" not in os.environ, reason="make kernel-lab runs these"),
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm here"),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None, reason="not installed: qemu-system-x86_64"
    ),
    pytest.mark.skipif(programs.COMPILER is None, reason="no C compiler"),
]

BOOT_SECONDS = 120
FIRMWARE_END = 0x100  # 1 MiB, in pages
RING = "kvm,dirty-ring-size=4096"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return guest_program.build(tmp_path_factory.mktemp("image"))


def boot(process) -> guest_program.Guest:
    """Not every KVM can run firmware: one that only runs simple code would be silent for ever."""
    ready, _, _ = select.select([process.stdout], [], [], BOOT_SECONDS)
    assert ready, f"the guest has not booted on this KVM in {BOOT_SECONDS} s"
    return guest_program.Guest(process)


@pytest.fixture
def guest(request, image, tmp_path):
    """A guest on KVM with its Monitor; the parameter says which KVM."""
    with running(command(image, tmp_path, "a", accel=request.param)) as process:
        booted = boot(process)
        with connected(process, tmp_path / "a.qmp") as monitor:
            assert monitor.kvm == Kvm(present=True, enabled=True)
            yield booted, monitor


def measured(booted, monitor, mode):
    """QEMU's figure of an interval in which all of the working set was written, the interval's
    seconds, and those that the whole took; a busy machine needs longer ones."""
    with Writing(booted) as writing:
        for seconds in (4, 8, 16, 32):
            before, began = writing.times, time.monotonic()
            found = DirtyRateMeter(monitor).measure(seconds, mode)
            took = time.monotonic() - began
            # One may have begun before the interval, one end behind it.
            if (writing.times - before) * seconds / took >= 3:
                writing.stop()
                return found, seconds, took
    raise AssertionError("the guest did not get to write its working set three times in 32 s")


@pytest.mark.parametrize("guest", ["kvm"], indirect=True)
def test_kvm_log(guest, capsys):
    """QEMU counts the pages that were written, and divides by the time that it took."""
    found, seconds, took = measured(*guest, "dirty-bitmap")
    most, least = (DirtyRate(len(TRUTH), 4096, s).as_qemu() for s in (seconds, took))
    with capsys.disabled():
        print(f"\n  KVM's log: QEMU {found.mib_per_s} MiB/s, truth {least} to {most} MiB/s")
    assert least <= found.mib_per_s <= most
    assert found.sample_pages_per_gib is None


@pytest.mark.parametrize("guest", [RING], indirect=True)
def test_kvm_ring(guest, capsys):
    """Of each CPU. A page that is written again after the ring was emptied counts again."""
    found, seconds, took = measured(*guest, "dirty-ring")
    least = DirtyRate(len(TRUTH), 4096, took).as_qemu()
    with capsys.disabled():
        print(f"\n  KVM's ring: QEMU {found.mib_per_s} MiB/s, distinct pages {least} MiB/s")
    assert found.seconds == seconds
    assert found.mib_per_s >= least
    assert dict(found.vcpu_mib_per_s) == {0: found.mib_per_s}


@pytest.mark.parametrize(
    "guest, mode", [("kvm", "dirty-ring"), (RING, "dirty-bitmap")], indirect=["guest"]
)
def test_kvm_has_one_of_them(guest, mode):
    """QEMU says itself that there is no ring, or nothing but the ring; and the guest runs on."""
    booted, monitor = guest
    with pytest.raises(QemuError, match=r"use .* instead"):
        DirtyRateMeter(monitor).measure(1, mode)
    booted.write(1)


@pytest.mark.skipif(not CommandTracker.probe(), reason=CommandTracker.probe().reason or "works")
def test_tracker_sees_what_a_guest_on_kvm_writes(image, tmp_path):
    ram = GuestRam(guest_program.RAM_NBYTES, path=str(tmp_path / "a.ram"))
    argv = command(image, tmp_path, "a", accel="kvm")
    pipes = {**programs.PIPES, "text": False}
    with CommandTracker(argv, placement=ram, **pipes) as tracker, tracker.process as process:
        try:
            booted = boot(process)
            pages(tracker)
            for byte in (1, 2, 255):
                written = booted.write(byte)
                # Among the firmware's pages 0xe8000 was once seen written while this guest ran.
                found = pages(tracker)
                assert [page for page in found if page >= guest_program.FIRST_PAGE] == written
                assert all(page < FIRMWARE_END for page in set(found) - set(written))
        finally:
            process.kill()
