"""Builds the extension against the headers that iovabitmap brings; nothing is linked with it."""

from setuptools import Extension, setup

import iovabitmap

setup(
    ext_modules=[
        Extension(
            "ring_device",
            sources=["ring_device.c"],
            include_dirs=[iovabitmap.get_include()],
        )
    ]
)
