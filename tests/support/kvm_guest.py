"""A real virtual machine in /dev/kvm: one CPU in real mode that writes the pages it is told."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct

PAGE = 4096
NPAGES = 256  # what real mode reaches
CODE_PAGE, TABLE_PAGE = 1, 2  # read only by the guest
FIRST_FREE = 3

KVM_CREATE_VM = 0xAE01
KVM_CHECK_EXTENSION = 0xAE03
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_CREATE_VCPU = 0xAE41
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
KVM_ENABLE_CAP = 0x4068AEA3
KVM_MEM_LOG_DIRTY_PAGES = 1
KVM_EXIT_HLT = 5
KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168
KVM_CAP_DIRTY_LOG_RING = 192
RING_PAGE_OFFSET = 64

# si = table; loop: lodsw; es = ax; byte [es:0]++; then hlt
CODE = (
    b"\xbe" + struct.pack("<H", TABLE_PAGE * PAGE) + b"\xb9%s"  # mov si, table; mov cx, count
    b"\xad\x8e\xc0\x26\xfe\x06\x00\x00\xe2\xf6\xf4"
)


def why_not() -> str:
    """Why no virtual machine can be had here; "" where one can."""
    try:
        with Guest() as guest:
            guest.write([FIRST_FREE])
    except OSError as error:
        return f"/dev/kvm: {error}"
    return ""


class Guest:
    """Slot 0 is guest-physical 0 to 1 MiB. `capability` (number, argument) is enabled first;
    `ring` is the size of the dirty ring in entries."""

    def __init__(self, *, log: bool = True, capability=None, ring: int = 0) -> None:
        self._fds = [os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)]
        self.memory = mmap.mmap(-1, NPAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            self._make(log, capability, ring)
        except BaseException:
            self.close()
            raise

    def _make(self, log, capability, ring) -> None:
        self.vm = self._add(fcntl.ioctl(self._fds[0], KVM_CREATE_VM, 0))
        if ring:
            self.enable(KVM_CAP_DIRTY_LOG_RING, ring * 16)
        if capability:
            self.enable(*capability)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._slot = (0, len(self.memory), address)
        self.set_log(False)
        self._vcpu = self._add(fcntl.ioctl(self.vm, KVM_CREATE_VCPU, 0))
        size = fcntl.ioctl(self._fds[0], KVM_GET_VCPU_MMAP_SIZE, 0)
        self._run = mmap.mmap(self._vcpu, size)
        if ring:
            self.ring = mmap.mmap(self._vcpu, ring * 16, offset=RING_PAGE_OFFSET * PAGE)
        sregs = bytearray(0x138)
        fcntl.ioctl(self._vcpu, KVM_GET_SREGS, sregs)
        struct.pack_into("<QIH", sregs, 0, 0, 0xFFFF, 0)  # cs: base, limit, selector
        fcntl.ioctl(self._vcpu, KVM_SET_SREGS, bytes(sregs))
        # KVM may log a page as dirty when the guest first touches it, if only to read it. So the
        # guest's code and table are touched before the log begins.
        self.write([FIRST_FREE])
        self.set_log(log)

    def _add(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def can(self, capability: int) -> int:
        return fcntl.ioctl(self._fds[0], KVM_CHECK_EXTENSION, capability)

    def enable(self, capability: int, argument: int) -> None:
        fcntl.ioctl(
            self.vm, KVM_ENABLE_CAP, struct.pack("<IIQ", capability, 0, argument).ljust(104, b"\0")
        )

    def set_log(self, on: bool) -> None:
        flags = KVM_MEM_LOG_DIRTY_PAGES if on else 0
        fcntl.ioctl(
            self.vm, KVM_SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, flags, *self._slot)
        )

    def write(self, pages) -> None:
        """The guest adds 1 to the first byte of each page. Checked by looking into its memory."""
        before = [self.memory[page * PAGE] for page in pages]
        code = CODE % struct.pack("<H", len(pages))
        self.memory[CODE_PAGE * PAGE : CODE_PAGE * PAGE + len(code)] = code
        table = b"".join(struct.pack("<H", page * PAGE // 16) for page in pages)
        self.memory[TABLE_PAGE * PAGE : TABLE_PAGE * PAGE + len(table)] = table
        regs = [0] * 16 + [CODE_PAGE * PAGE, 2]  # rip, rflags
        fcntl.ioctl(self._vcpu, KVM_SET_REGS, struct.pack("<18Q", *regs))
        fcntl.ioctl(self._vcpu, KVM_RUN, 0)
        (reason,) = struct.unpack_from("<I", self._run, 8)
        assert reason == KVM_EXIT_HLT, f"the guest stopped for reason {reason}"
        after = [self.memory[page * PAGE] for page in pages]
        assert after == [(value + 1) % 256 for value in before]

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exc) -> None:
        self.close()
