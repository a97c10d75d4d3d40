"""Runs a command as root on another kernel, with this machine's file tree as a read-only root.

    python tools/kernel_lab/boot.py [OPTIONS] -- COMMAND...

QEMU emulates the machine (TCG), with what this one may not have: a CPU with AMD's virtualization,
for /dev/kvm, an IOMMU, and a network card to give to VFIO. The kernel is Debian's own, of a newer
suite, with soft-dirty bits; it is fetched and not installed. The exit status is the command's; 0,
with the reason printed, where the lab cannot be had here, unless --require is given.
"""

from __future__ import annotations

import argparse
import lzma
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from packages import Suite, UnavailableError

HERE = Path(__file__).resolve().parent
SUITE = "trixie"
# In this order. What a kernel has built in, or does not have, is left out.
MODULES = [
    *("netfs", "9pnet", "9pnet_virtio", "9p"),
    *("irqbypass", "ccp", "kvm", "kvm-amd"),
    *("iommufd", "vfio", "vfio_iommu_type1", "vfio-pci-core", "vfio-pci"),
]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DONE = re.compile(r"kernel-lab: exit (\d+)")
MACHINE = [
    *("-accel", "tcg", "-machine", "q35,kernel-irqchip=split", "-cpu", "max"),
    *("-display", "none", "-vga", "none", "-monitor", "none", "-serial", "stdio"),
    *("-no-reboot", "-nic", "none", "-device", "intel-iommu,intremap=on", "-device", "e1000e"),
]
# Without multidevs=remap files of different file systems share identities.
ROOT = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
# The clock is an emulated one: on a busy host the kernel's own check of it can fail.
APPEND = "console=ttyS0 quiet panic=-1 no_timer_check intel_iommu=on"


def archive(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A cpio archive ("newc") of path -> (mode, content), which the kernel unpacks at its start."""
    parts = []
    for number, (path, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))]):
        name = path.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        parts += [head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)]
    return b"".join(parts)


def modules(folder: Path) -> dict[str, bytes]:
    """The modules that this kernel has, unpacked, by file name, in order of loading."""
    found = {}
    for name in MODULES:
        for path in folder.rglob(f"{name}.ko*"):
            content = path.read_bytes()
            found[f"{name}.ko"] = lzma.decompress(content) if path.suffix == ".xz" else content
    return found


def initramfs(busybox: Path, loaded: dict[str, bytes], command: str) -> bytes:
    directory, program, plain = 0o040755, 0o100755, 0o100644
    files = {
        "bin": (directory, b""),
        "modules": (directory, b""),
        "bin/busybox": (program, busybox.read_bytes()),
        "init": (program, (HERE / "init").read_bytes()),
        "command": (plain, command.encode()),
        "modules/order": (plain, "".join(f"{name}\n" for name in loaded).encode()),
    }
    files |= {f"modules/{name}": (plain, content) for name, content in loaded.items()}
    return archive(files)


def script(command: list[str]) -> str:
    """What runs inside: the command, in this folder, with what must be written in /run."""
    lines = [
        "export HOME=/run TMPDIR=/run HYPOTHESIS_STORAGE_DIRECTORY=/run/hypothesis",
        "export PYTHONDONTWRITEBYTECODE=1 TERM=dumb",
        f"export PATH={PATH}",
        f"cd {shlex.quote(str(Path.cwd()))}",
        'echo "kernel-lab: Linux $(uname -r)"',
        "exec " + shlex.join(command),
    ]
    return "\n".join(lines) + "\n"


def run(kernel: Path, first_root: Path, memory: int, timeout: float) -> int:
    """Boots, shows the console, and returns the command's exit status."""
    argv = ["qemu-system-x86_64", *MACHINE, "-m", str(memory), "-virtfs", ROOT]
    argv += ["-kernel", str(kernel), "-initrd", str(first_root), "-append", APPEND]
    status = None
    began = time.monotonic()
    qemu = subprocess.Popen(
        ["timeout", str(timeout), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    with qemu:
        assert qemu.stdout is not None
        for line in qemu.stdout:
            sys.stdout.write(line.replace("\r", ""))
            sys.stdout.flush()
            status = int(found[1]) if (found := DONE.search(line)) else status
    if status is None:
        print(f"kernel-lab: the machine ended without an answer (QEMU: {qemu.returncode})")
        return 1
    print(f"kernel-lab: {time.monotonic() - began:.0f} s from power on to power off")
    return status


def prepare(options: argparse.Namespace) -> tuple[Path, Path]:
    """The kernel and its first root. UnavailableError."""
    if shutil.which("qemu-system-x86_64") is None:
        raise UnavailableError("no qemu-system-x86_64 (package qemu-system-x86)")
    folder = options.folder
    suite = Suite(options.suite, folder)
    busybox = next(suite.unpack("busybox-static").rglob("bin/busybox"))
    kernel, tree = options.kernel, options.modules
    if kernel is None:
        package = suite.unpack(suite.dependency("linux-image-amd64", "linux-image-"))
        kernel, tree = next(package.glob("boot/vmlinuz-*")), package
    loaded = modules(tree) if tree else {}
    first_root = folder / "initramfs"
    first_root.write_bytes(initramfs(busybox, loaded, script(options.command)))
    return kernel, first_root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/kernel-lab"))
    parser.add_argument("--suite", default=SUITE, help="of Debian, for the kernel (%(default)s)")
    parser.add_argument("--kernel", type=Path, help="another bzImage")
    parser.add_argument("--modules", type=Path, help="the folder with that kernel's modules")
    parser.add_argument("--memory", type=int, default=1024, help="MiB (%(default)s)")
    parser.add_argument("--timeout", type=float, default=1500, help="seconds (%(default)s)")
    parser.add_argument("--require", action="store_true", help="fail where the lab cannot be had")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        kernel, first_root = prepare(options)
    except UnavailableError as error:
        print(f"kernel-lab: skipped: {error}")
        return 1 if options.require else 0
    return run(kernel, first_root, options.memory, options.timeout)


if __name__ == "__main__":
    sys.exit(main())
