"""Packages that only a part of this one needs: loaded when they are used, or missed with a hint."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The extra that brings a package, unless the caller names another that brings it too.
EXTRAS = {
    "IPython": "jupyter",
    "bokeh": "view",
    "click": "cli",
    "dask": "fleet",
    "fsspec": "fleet",
    "hypothesis": "hypothesis",
    "matplotlib": "plot",
    "pandas": "pandas",
    "pyarrow": "logs",
    "qemu.qmp": "qemu",
    "rich": "cli",
    "xarray": "xarray",
}


def need(module: str, extra: str = "") -> Any:
    """The module, loaded.

    Raises
    ------
    ImportError
        If it, or what it needs itself, is not installed; the message names the extra to install.
    """
    try:
        return import_module(module)
    except ImportError as missing:
        package = module if module in EXTRAS else module.partition(".")[0]
        extra = extra or EXTRAS[package]
        raise ImportError(
            f"this needs {package}: pip install 'iovabitmap[{extra}]'", name=package
        ) from missing
