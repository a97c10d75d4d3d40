"""Set-up of the Python tests: where the shared tools are found, and a few small fixtures.

Nothing here depends on where this folder lies, so a copy of it tests an installed wheel.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

# A failed comparison in the shared tools shows both sides, as one in a test does.
pytest.register_assert_rewrite("support.driver", "support.memory", "support.pins")

from hypothesis import HealthCheck, settings  # noqa: E402

from support import under_test  # noqa: E402
from support.memory import Region  # noqa: E402
from support.pins import FaultyPin, RecordingPin  # noqa: E402

# No test may depend on speed: a slow or busy machine must not turn a result around. Derandomized,
# so that a run can be repeated; more examples come with --hypothesis-profile=deep.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "deep", settings.get_profile("suite"), derandomize=False, max_examples=5000
)
settings.load_profile("suite")


# A test that hangs must not hang the run: after this long (ordinary ones take seconds), what every
# thread does is shown, and the process ends. pytest-xdist names the test, and goes on with another
# worker. The watchdog is no thread of Python: it works whoever holds the GIL.
LIMIT_S = int(os.environ.get("IOVABITMAP_TEST_LIMIT", "600"))
_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "engine_only(reason): not for the model, for this reason")
    config.stash[_stderr] = os.dup(2)  # a test's own is captured


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_stderr])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    stderr = item.config.stash[_stderr]
    faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of modules that use `support.under_test.ib` run over the engine and over the model."""
    if getattr(metafunc.module, "ib", None) is under_test.ib:
        for_both = metafunc.definition.get_closest_marker("engine_only") is None
        names = under_test.NAMES if for_both else under_test.NAMES[:1]
        metafunc.parametrize("implementation", names, indirect=True)


@pytest.fixture(autouse=True)
def implementation(request) -> str:
    """The name of the implementation that the test is run over."""
    name = getattr(request, "param", "engine")
    under_test.ib.choose(name)
    return name


@pytest.fixture
def region():
    """Makes a `Region`: pages with an inaccessible page right before and right after."""
    if sys.platform == "win32":
        pytest.skip("inaccessible pages need mmap and mprotect of a POSIX libc")
    return Region


@pytest.fixture
def recording_pin() -> RecordingPin:
    return RecordingPin()


@pytest.fixture
def faulty_pin() -> FaultyPin:
    return FaultyPin()


@pytest.fixture
def unraisable() -> list:
    """What reaches `sys.unraisablehook` during the test, as (exception type, message)."""
    return []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fills `unraisable`. The fixture cannot: before 8.4, pytest sets its own hook for the call of
    each test, after its fixtures."""
    seen = getattr(item, "funcargs", {}).get("unraisable")
    if seen is None:
        return (yield)
    before = sys.unraisablehook
    # Only the type and the text: keeping the exception would keep its frames alive.
    sys.unraisablehook = lambda info: seen.append((info.exc_type, str(info.exc_value)))
    try:
        return (yield)
    finally:
        sys.unraisablehook = before
