"""Builds the extension module; all else about the package is in pyproject.toml.

Environment variables change the build, each with the value 1 unless it says otherwise:

IOVABITMAP_SANITIZE       AddressSanitizer and UndefinedBehaviorSanitizer
IOVABITMAP_COVERAGE       line coverage, for gcov
IOVABITMAP_DEBUG          no optimization, assertions on
IOVABITMAP_LIMITED_API=0  this interpreter's full API instead of one binary for every CPython
IOVABITMAP_WERROR         warnings are errors: for the project's own builds, never for a user's
"""

import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

ABI_VERSION = "0x030B0000"  # the limited API as of CPython 3.11
ABI_TAG = "cp311"


def switch(name: str, default: str = "0") -> bool:
    return os.environ.get(f"IOVABITMAP_{name}", default) == "1"


def files(pattern: str) -> list[str]:
    return sorted(path.as_posix() for path in Path("csrc").glob(f"*/{pattern}"))


# A free-threaded interpreter has no limited API.
limited_api = switch("LIMITED_API", "1") and not sysconfig.get_config_var("Py_GIL_DISABLED")

defines = [("Py_LIMITED_API", ABI_VERSION)] if limited_api else []
undefines = []
link = []

if sysconfig.get_platform().startswith("win"):
    flags = ["/std:c11", "/W4"]
    if switch("WERROR"):
        flags += ["/WX"]
else:
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
        flags += ["-O0", "--coverage"]
        link += ["--coverage"]

setup(
    ext_modules=[
        Extension(
            "iovabitmap._core",
            sources=files("*.c"),
            depends=[*files("*.h"), "setup.py"],
            include_dirs=["csrc/core", "csrc/python"],
            define_macros=defines,
            undef_macros=undefines,
            extra_compile_args=flags,
            extra_link_args=link,
            py_limited_api=limited_api,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": ABI_TAG}} if limited_api else {},
)
