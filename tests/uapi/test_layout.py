"""Layouts and numbers are those of the C headers: a compiled program says so, row by row.

A header that is older than an interface does not have it; that row is skipped, and says so.
IOVABITMAP_UAPI_HEADERS names folders with newer ones, separated as in PATH.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sysconfig

import pytest

from iovabitmap import uapi

HEADERS = {
    "iommufd": "linux/iommufd.h",
    "kvm": "linux/kvm.h",
    "pagemap": "linux/fs.h",
    "userfaultfd": "linux/userfaultfd.h",
    "vfio_device": "linux/vfio.h",
    "vfio_type1": "linux/vfio.h",
}
CONSTANT = re.compile(r"(IOMMU|VFIO|KVM|UFFD|UFFDIO|PAGE_IS|PM_SCAN|PAGEMAP)_[A-Z0-9_]+$")
OURS = {"UFFD_KIND"}  # names that look like the headers', and are not

COMPILER = shutil.which(shlex.split(sysconfig.get_config_var("CC") or "cc")[0]) or shutil.which(
    "cc"
)
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def structures() -> list[tuple[str, str]]:
    return [
        (module, name)
        for module in HEADERS
        for name, kind in vars(getattr(uapi, module)).items()
        if isinstance(kind, type) and issubclass(kind, ctypes.Structure)
        if kind.__module__.endswith(f".{module}") and not name.startswith("_")
    ]


def constants(module: str) -> dict[str, int]:
    names = vars(getattr(uapi, module)).items()
    return {name: value for name, value in names if CONSTANT.match(name) and name not in OURS}


class Headers:
    """Compiles and runs programs that print numbers, one a line."""

    def __init__(self, folder) -> None:
        self.folder = folder
        more = os.environ.get("IOVABITMAP_UAPI_HEADERS", "").split(os.pathsep)
        self.options = [f"-isystem{each}" for each in more if each]

    def numbers(self, header: str, expressions: list[str]) -> list[int] | str:
        """Their values, or what the compiler says."""
        source, program = self.folder / "row.c", self.folder / "row"
        lines = "".join(
            f'printf("%llu\\n", (unsigned long long)({each}));\n' for each in expressions
        )
        source.write_text(
            "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n"
            f"#include <{header}>\nint main(void) {{\n{lines}return 0; }}\n"
        )
        command = [COMPILER, *self.options, str(source), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return next((line for line in done.stderr.splitlines() if "error:" in line), "?")
        out = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
        return [int(line) for line in out.split()]


@pytest.fixture
def headers(tmp_path) -> Headers:
    return Headers(tmp_path)


@pytest.mark.parametrize("module, name", structures())
def test_structure(headers, module, name):
    """Its size, and the offset and size of each field."""
    size = headers.numbers(HEADERS[module], [f"sizeof(struct {name})"])
    if isinstance(size, str):
        pytest.skip(f"this machine's <{HEADERS[module]}> is too old: {size}")
    kind = getattr(getattr(uapi, module), name)
    assert size == [ctypes.sizeof(kind)]
    fields = [field[0] for field in kind._fields_]
    offsets = headers.numbers(HEADERS[module], [f"offsetof(struct {name}, {f})" for f in fields])
    sizes = headers.numbers(HEADERS[module], [f"sizeof(((struct {name} *)0)->{f})" for f in fields])
    assert offsets == [getattr(kind, field).offset for field in fields]
    assert sizes == [getattr(kind, field).size for field in fields]


@pytest.mark.parametrize("module", HEADERS)
def test_numbers(headers, module):
    """Numbers of calls, flags and categories. All that the header has must agree."""
    wanted = constants(module)
    assert len(wanted) >= 3
    seen, missing = {}, []
    for name in wanted:
        value = headers.numbers(HEADERS[module], [name])
        if isinstance(value, str):
            missing.append(name)
        else:
            seen[name] = value[0]
    assert seen == {name: wanted[name] for name in seen}
    if missing:
        pytest.skip(
            f"{len(seen)} agree; this machine's <{HEADERS[module]}> is too old for "
            + ", ".join(missing)
        )


def test_numbers_as_published():
    """The same, once more, as plain numbers: for machines without headers, and for readers."""
    assert uapi.iommufd.IOMMU_HWPT_SET_DIRTY_TRACKING == 0x3B8B
    assert uapi.iommufd.IOMMU_HWPT_GET_DIRTY_BITMAP == 0x3B8C
    assert uapi.vfio_device.VFIO_DEVICE_FEATURE == 0x3B75
    assert uapi.vfio_type1.VFIO_IOMMU_DIRTY_PAGES == 0x3B75
    assert uapi.kvm.KVM_GET_DIRTY_LOG == 0x4010AE42
    assert uapi.kvm.KVM_CLEAR_DIRTY_LOG == 0xC018AEC0
    assert uapi.kvm.KVM_RESET_DIRTY_RINGS == 0xAEC7
    assert uapi.pagemap.PAGEMAP_SCAN == 0xC0606610
    sizes = {name: ctypes.sizeof(getattr(getattr(uapi, m), name)) for m, name in structures()}
    assert sizes == {
        "iommu_hwpt_get_dirty_bitmap": 48,
        "iommu_hwpt_set_dirty_tracking": 16,
        "kvm_clear_dirty_log": 24,
        "kvm_dirty_gfn": 16,
        "kvm_dirty_log": 16,
        "page_region": 24,
        "pm_scan_arg": 96,
        "uffdio_api": 24,
        "uffdio_range": 16,
        "uffdio_register": 32,
        "uffdio_writeprotect": 24,
        "vfio_bitmap": 24,
        "vfio_device_feature": 8,
        "vfio_device_feature_dma_logging_control": 24,
        "vfio_device_feature_dma_logging_range": 16,
        "vfio_device_feature_dma_logging_report": 32,
        "vfio_iommu_type1_dirty_bitmap": 8,
        "vfio_iommu_type1_dirty_bitmap_get": 40,
        "vfio_iommu_type1_info": 24,
    }
