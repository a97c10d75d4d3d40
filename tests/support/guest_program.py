"""A guest for QEMU: a boot sector that writes known pages of its memory each time it is told to.

It turns interrupts off and uses no stack, so that from one answer to the next it writes to the
pages it is told, and to nothing else. One byte on its serial line starts a round; it answers "R".
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .programs import COMPILER

FIRST_PAGE = 0x400  # 4 MiB
SPAN = 0x4000
WRITES = 200
RAM_NBYTES = 128 << 20

SOURCE = r"""
.code16
.globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    inb $0x92, %al            # A20
    orb $2, %al
    outb %al, $0x92
    lgdt table_descriptor
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmp $8, $protected
.code32
protected:
    movw $16, %ax
    movw %ax, %ds
ready:
    movw $0x3fd, %dx
1:  inb %dx, %al              # until the line takes a byte
    testb $0x20, %al
    jz 1b
    movw $0x3f8, %dx
    movb $'R', %al
    outb %al, %dx
    movw $0x3fd, %dx
2:  inb %dx, %al              # until there is a byte
    testb $1, %al
    jz 2b
    movw $0x3f8, %dx
    inb %dx, %al
    movzbl %al, %ebx
    imull $97, %ebx, %ebx
    xorl %ecx, %ecx
3:  movl %ecx, %eax           # page = first + (13 * k * k + 97 * byte) % span
    imull %eax, %eax
    imull $13, %eax, %eax
    addl %ebx, %eax
    andl $(SPAN - 1), %eax
    addl $FIRST_PAGE, %eax
    shll $12, %eax
    incl (%eax)
    incl %ecx
    cmpl $WRITES, %ecx
    jb 3b
    jmp ready
.align 8
table:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
table_descriptor:
    .word 23
    .long table
.org 510
    .word 0xaa55
"""


def build(folder: Path) -> Path:
    """A floppy's image with the boot sector."""
    source, image = folder / "boot.S", folder / "boot.img"
    source.write_text(SOURCE)
    numbers = {"FIRST_PAGE": FIRST_PAGE, "SPAN": SPAN, "WRITES": WRITES}
    flags = ["-m32", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x7c00,--oformat=binary"]
    flags += ["-Wl,--build-id=none", *(f"-D{name}={value}" for name, value in numbers.items())]
    subprocess.run(
        [COMPILER, *flags, str(source), "-o", str(image)], check=True, capture_output=True
    )
    image.write_bytes(image.read_bytes().ljust(1440 << 10, b"\0"))
    return image


def pages_of(byte: int) -> list[int]:
    """The pages that a round writes, ascending."""
    rounds = range(WRITES)
    return sorted({FIRST_PAGE + (13 * k * k + 97 * byte) % SPAN for k in rounds})


class Guest:
    """Talks to a running guest over the pipes of a `Popen`, whose serial line is `stdio`."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self._hear()

    def _hear(self) -> None:
        answer = self.process.stdout.read(1)
        assert answer == b"R", f"the guest said {answer!r}; QEMU: {self.process.poll()}"

    def write(self, byte: int) -> list[int]:
        """One round: the pages written."""
        self.process.stdin.write(bytes([byte]))
        self.process.stdin.flush()
        self._hear()
        return pages_of(byte)


def command(image: Path, ram_file: Path | None = None, accel: str = "tcg") -> list[str]:
    """QEMU with this guest; its memory anonymous, or in a file that others can read."""
    argv = ["qemu-system-x86_64", "-accel", accel, "-m", f"{RAM_NBYTES >> 20}", "-nodefaults"]
    argv += ["-display", "none", "-serial", "stdio"]
    argv += ["-drive", f"if=floppy,format=raw,file={image}", "-boot", "a"]
    if ram_file is not None:
        size = f"size={RAM_NBYTES}"
        argv += ["-object", f"memory-backend-file,id=ram,{size},mem-path={ram_file},share=on"]
        argv += ["-machine", "pc,memory-backend=ram"]
    return argv
