"""Pictures that a test draws are closed, as pyplot keeps them."""

import sys

import pytest


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
