"""Builds the extension module; all else about the package is in pyproject.toml.

Environment variables change the build, each with the value 1 unless it says otherwise:

IOVABITMAP_SANITIZE       AddressSanitizer and UndefinedBehaviorSanitizer
IOVABITMAP_COVERAGE       line coverage, for gcov
IOVABITMAP_DEBUG          no optimization, assertions on
IOVABITMAP_LIMITED_API=0  this interpreter's full API instead of one binary for every CPython
IOVABITMAP_WERROR         warnings are errors: for the project's own builds, never for a user's
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

ABI_VERSION = "0x030B0000"  # the limited API as of CPython 3.11
ABI_TAG = "cp311"
PUBLIC_HEADERS = ("csrc/include/iova_bitmap.h", "csrc/include/iovabitmap_api.h")
INSTRUMENTED = ("-fsanitize", "-fno-sanitize", "--coverage")


def switch(name: str, default: str = "0") -> bool:
    return os.environ.get(f"IOVABITMAP_{name}", default) == "1"


def files(pattern: str) -> list[str]:
    folders = ("csrc/core", "csrc/include", "csrc/linux", "csrc/python")
    return sorted(path.as_posix() for folder in folders for path in Path(folder).rglob(pattern))


def copy_public_headers() -> None:
    """To where get_include() says. Copies: not every archive and file system keeps a link one."""
    folder = Path("iovabitmap/include")
    folder.mkdir(exist_ok=True)
    for header in map(Path, PUBLIC_HEADERS):
        copy = folder / header.name
        if not copy.exists() or copy.read_bytes() != header.read_bytes():
            shutil.copyfile(header, copy)


# A free-threaded interpreter has no limited API before 3.15, and then one that 3.11 does not have.
limited_api = switch("LIMITED_API", "1") and not sysconfig.get_config_var("Py_GIL_DISABLED")

defines = [("Py_LIMITED_API", ABI_VERSION)] if limited_api else []
undefines = []
link = []

if sysconfig.get_platform().startswith("win"):
    sys.exit(
        "iovabitmap needs GCC or Clang; on Windows a Python of MinGW-w64, not one built by MSVC"
    )

# The engine needs more of the C library than ISO C; Python.h defines the same name.
defines += [("_GNU_SOURCE", "1")]
flags = ["-std=c11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wshadow"]
if switch("WERROR"):
    flags += ["-Wconversion", "-Wmissing-prototypes", "-Wundef", "-Werror"]
if switch("DEBUG"):
    flags += ["-O0", "-g3"]
    undefines += ["NDEBUG"]
if switch("SANITIZE"):
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    flags += ["-O1", "-g", "-fno-omit-frame-pointer", *sanitizers]
    undefines += ["NDEBUG"]
    link += sanitizers
if switch("COVERAGE"):
    flags += ["-O0", "--coverage", "-fprofile-update=atomic"]
    link += ["--coverage"]

modules = [
    Extension(
        "iovabitmap._core",
        sources=files("*.c"),
        depends=[*files("*.h"), "setup.py"],
        include_dirs=["csrc", "csrc/include"],
        define_macros=defines,
        undef_macros=undefines,
        extra_compile_args=flags,
        extra_link_args=link,
        py_limited_api=limited_api,
    )
]
if sys.platform == "linux":
    # No module but a plain shared object, for programs that know nothing of Python; it is built as
    # an extension so that it is found beside the package, in a wheel as in this tree. Other
    # programs have no sanitizer's runtime, so it is never built with one.
    modules += [
        Extension(
            "iovabitmap.sources._preload",
            sources=["csrc/preload/preload.c"],
            depends=["setup.py"],
            define_macros=[("_GNU_SOURCE", "1")],
            extra_compile_args=[flag for flag in flags if not flag.startswith(INSTRUMENTED)],
            py_limited_api=limited_api,
        )
    ]

copy_public_headers()
setup(
    ext_modules=modules,
    options={"bdist_wheel": {"py_limited_api": ABI_TAG}} if limited_api else {},
)
