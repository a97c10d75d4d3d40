"""What `make install-c` installs, used as a C program uses it: through pkg-config alone.

The program is the one of docs/c-users.md, compiled and linked as that page says; what it prints is
what the page says. The shared library exports what the header declares, and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "c-users.md"
HEADER = ROOT / "csrc" / "include" / "iova_bitmap.h"
NAME = re.compile(r"`(\w+)`(?:,| \|$)")
BLOCK = r"```{}\n(.*?)```\n"
WARNINGS = ("-pedantic", "-Wall", "-Wextra", "-Werror")

pytestmark = pytest.mark.skipif(
    not (ROOT / "tools" / "install.mk").exists(), reason="the source is not beside these tests"
)


def run(*command: object, **more: str) -> str:
    """What a command prints. Of the make that runs these tests it knows nothing."""
    env = {
        name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=env | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def need(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> Path:
    need("make", "cc")
    folder = tmp_path_factory.mktemp("install")
    variables = (f"PREFIX={folder / 'prefix'}", f"C_BUILD={folder / 'build'}", "CFLAGS=-O0 -Werror")
    run("make", "install-c", *variables)
    return folder / "prefix"


@pytest.fixture
def program(prefix, tmp_path):
    """Compiles the page's program by the page's command, with these words in it, and runs it."""
    need("pkg-config")
    (source,) = re.findall(BLOCK.format("c"), PAGE.read_text("utf-8"), re.DOTALL)
    (command,) = re.findall("^(cc program.c .*) -o program$", PAGE.read_text("utf-8"), re.MULTILINE)
    (tmp_path / "program.c").write_text(source, "utf-8")

    def compiled(*more: str, pkg_config: str = "pkg-config") -> str:
        line = f"{command} -o program {' '.join(more)}".replace("pkg-config", pkg_config)
        found = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
        run("sh", "-c", f"cd '{tmp_path}' && {line}", **found)
        return run(tmp_path / "program", LD_LIBRARY_PATH=str(prefix / "lib"))

    return compiled


def printed() -> str:
    """What the page says that the program prints."""
    return re.findall(BLOCK.format("text"), PAGE.read_text("utf-8"), re.DOTALL)[0]


def declared() -> list[str]:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text("utf-8"), flags=re.DOTALL)
    return sorted(set(re.findall(r"\b(iova_bitmap_\w+)\(", text)))


def test_the_reference_lists_every_function_once():
    page = (ROOT / "docs" / "reference" / "c.md").read_text("utf-8")
    listed = [
        name for row in re.findall(r"^\|.*$", page, re.MULTILINE) for name in NAME.findall(row)
    ]
    assert sorted(f"iova_bitmap_{name}" for name in listed) == declared()


def test_the_program_of_the_manual(program):
    assert program("-std=c99", *WARNINGS) == printed()


def test_the_program_linked_statically(program, prefix, tmp_path):
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    tried = subprocess.run(
        ["cc", "-static", probe, "-o", tmp_path / "probe"], capture_output=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip("the C library is not there to be linked statically")
    assert program("-static", pkg_config="pkg-config --static") == printed()
    assert "-pthread" in run(
        "pkg-config", "--static", "--libs", prefix / "lib" / "pkgconfig" / "iova_bitmap.pc"
    )


def test_pkg_config_knows_the_version(prefix):
    need("pkg-config")
    numbers = re.findall(r"#define IOVA_BITMAP_VERSION_[MP]\w+ (\d+)", HEADER.read_text("utf-8"))
    file = prefix / "lib" / "pkgconfig" / "iova_bitmap.pc"
    assert run("pkg-config", "--modversion", file).strip() == ".".join(numbers)


@pytest.mark.parametrize(
    "compiler, standard",
    [("cc", "c99"), ("cc", "c11"), ("c++", "c++11"), ("c++", "c++17")],
)
def test_the_headers_compile_alone(prefix, tmp_path, compiler, standard):
    """Each as the first that a file includes. The version is a number for #if."""
    need(compiler)
    for header in ("iova_bitmap.h", "iovabitmap_api.h"):
        source = tmp_path / ("user.c" if compiler == "cc" else "user.cc")
        source.write_text(
            f"#include <{header}>\n#if IOVA_BITMAP_VERSION < 900\n#error version\n#endif\n"
            "struct iova_bitmap_ranges ranges;\n"
        )
        options = (f"-std={standard}", *WARNINGS, f"-I{prefix / 'include'}")
        run(compiler, *options, "-c", source, "-o", tmp_path / "user.o")


def test_the_shared_library_exports_what_the_header_declares(prefix):
    need("nm")
    lines = run("nm", "-D", "--defined-only", prefix / "lib" / "libiova_bitmap.so.0").splitlines()
    names = [line.split()[-1] for line in lines]
    versions = [name for name in names if name.startswith("IOVA_BITMAP_")]
    exported = dict(name.split("@@") for name in names if name not in versions)
    assert sorted(exported) == declared()
    assert set(exported.values()) == set(versions) == {"IOVA_BITMAP_0.10"}


def test_the_shared_library_is_found_by_its_soname(prefix):
    need("readelf")
    said = run("readelf", "-d", prefix / "lib" / "libiova_bitmap.so", LC_ALL="C")
    assert "soname: [libiova_bitmap.so.0]" in said
    assert (prefix / "lib" / "libiova_bitmap.so").readlink() == Path("libiova_bitmap.so.0")


def test_all_names_of_the_static_library_begin_as_ours(prefix):
    need("nm")
    lines = run("nm", "-g", "--defined-only", prefix / "lib" / "libiova_bitmap.a").splitlines()
    names = {fields[2] for line in lines if len(fields := line.split()) == 3}
    assert {name for name in names if not name.startswith("iova_")} == set()
    assert names.issuperset(declared())
    assert not any("tracker" in name for name in names)


def test_files_are_where_they_are_asked_for(prefix, tmp_path):
    """Below DESTDIR, which no file knows."""
    build = prefix.parent / "build"
    folders = ("PREFIX=/opt/x", "LIBDIR=/opt/x/lib64", "INCLUDEDIR=/opt/include")
    run("make", "install-c", f"DESTDIR={tmp_path}", *folders, f"C_BUILD={build}")
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir())
    assert found == [
        "opt/include/iova_bitmap.h",
        "opt/include/iovabitmap_api.h",
        "opt/x/lib64/libiova_bitmap.a",
        "opt/x/lib64/libiova_bitmap.so",
        "opt/x/lib64/libiova_bitmap.so.0",
        "opt/x/lib64/pkgconfig/iova_bitmap.pc",
    ]
    text = (tmp_path / found[-1]).read_text()
    assert text.startswith("prefix=/opt/x\nlibdir=${prefix}/lib64\nincludedir=/opt/include\n")
