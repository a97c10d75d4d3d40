"""Names of a package that are loaded when they are first asked for.

For the package itself, which pytest and hypothesis import in every run, and for what not every
user of it has the libraries for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def loader(
    package: str, names: Mapping[str, str], modules: Iterable[str] = ()
) -> Callable[[str], Any]:
    """A `__getattr__` for `package`: from then on the name is an attribute like any other.

    Parameters
    ----------
    package : str
        Its name.
    names : mapping of str
        For each name the module, relative to the package, that has it.
    modules : iterable of str
        Modules of the package that are names themselves.
    """
    known = {*modules}

    def load(name: str) -> Any:
        if name in known:
            return import_module(f".{name}", package)
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f".{names[name]}", package), name)
        setattr(sys.modules[package], name, found)
        return found

    return load
