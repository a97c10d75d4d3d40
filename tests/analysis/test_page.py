"""The examples of the page on analysis, and those of the docstrings, say what comes out."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import iovabitmap.analysis

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the manual is not there: an installed package")
def test_the_page():
    """Each block of Python prints the block of text behind it."""
    names, shown = {}, []
    printed = io.StringIO()
    for language, code in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if language == "python":
            with contextlib.redirect_stdout(printed):
                exec(code, names)
        else:
            shown.append(code)
    assert printed.getvalue() == "".join(shown)
    assert len(shown) == 2


def modules():
    return [module.name for module in pkgutil.iter_modules(iovabitmap.analysis.__path__)]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name):
    module = importlib.import_module(f"iovabitmap.analysis.{name}")
    assert doctest.testmod(module).failed == 0
