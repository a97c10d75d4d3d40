"""Names of a package that are loaded when they are first asked for.

For the package itself, which pytest and hypothesis import in every run, and for what not every
user of it has the libraries for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def loader(
    package: dict[str, Any], names: Mapping[str, str], modules: Iterable[str] = ()
) -> Callable[[str], Any]:
    """A `__getattr__` for a package, after which the name is an attribute like any other.

    Parameters
    ----------
    package : dict
        Its `globals()`.
    names : mapping of str
        For each name the module, relative to the package, that has it.
    modules : iterable of str
        Modules of the package that are names themselves.
    """
    known, own_name = {*modules}, package["__name__"]

    def load(name: str) -> Any:
        if name in known:
            return import_module(f".{name}", own_name)
        if name not in names:
            raise AttributeError(f"module {own_name!r} has no attribute {name!r}")
        found = getattr(import_module(f".{names[name]}", own_name), name)
        package[name] = found
        return found

    return load
