"""Shared tools of the Python test-suite: memory with guards, pin objects, the oracle, the driver.

A plain package beside the tests. `conftest.py` puts its folder on `sys.path`, so the suite runs in
the source tree and just as well from a copy of this folder against an installed wheel.
"""
