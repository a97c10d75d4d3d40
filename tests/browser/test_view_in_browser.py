"""The interactive view of 100,000 epochs in a headless Chromium, by wheel, mouse and pointer: what
is drawn is compared with the log, cell by cell and as pixels. `make browser-tests` runs these."""

from __future__ import annotations

import io
import shutil
from base64 import b64decode

import numpy as np
import pytest

import iovabitmap as ib
from support import long_log
from support.logs import needs

needs("playwright", "bokeh", "pyarrow", "matplotlib")
from matplotlib import image as pictures  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from iovabitmap import plot  # noqa: E402

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="not installed: chromium")

MODEL = "const find = (name) => Bokeh.documents[0].get_model_by_name(name);"
DRAWN = f"""() => {{ {MODEL}
    const {{image, x, y, dw, dh}} = find("image").data, [lines, columns] = image[0].shape;
    const bytes = Uint8Array.from(image[0]); let cells = "";
    for (let n = 0; n < bytes.length; n += 1 << 13)
        cells += String.fromCharCode(...bytes.subarray(n, n + (1 << 13)));
    return {{cells: btoa(cells), lines, columns, x: x[0], y: y[0], dw: dw[0], dh: dh[0],
        xs: [find("view").x_range.start, find("view").x_range.end],
        ys: [find("view").y_range.start, find("view").y_range.end]}}; }}"""
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


class Seen:
    """What the page has drawn: the cells' values, and where they are in seconds and positions."""

    def __init__(self, found: dict) -> None:
        self.cells = np.frombuffer(b64decode(found["cells"]), np.uint8).reshape(
            found["lines"], found["columns"]
        )
        self.dx, self.dy = found["dw"] / found["columns"], found["dh"] / found["lines"]
        self.x, self.y, self.xs, self.ys = (found[name] for name in ("x", "y", "xs", "ys"))

    def part(self, seconds: float, position: float) -> int:
        return self.cells[int((position - self.y) // self.dy), int((seconds - self.x) // self.dx)]

    def pages(self, seconds: float) -> set[int]:
        """The positions that are dirty at a time, where each line is a page."""
        assert self.dy == 1
        column = self.cells[:, int((seconds - self.x) // self.dx)]
        return {int(self.y) + int(line) for line in np.flatnonzero(column)}


class View:
    """The page, and where on it the log is."""

    def __init__(self, page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))

    def drawn(self) -> Seen:
        self.page.evaluate(FRAMES)
        assert not self.errors
        return Seen(self.page.evaluate(DRAWN))

    def ranges(self) -> list[list[float]]:
        """The seconds and the positions that are seen, first and last, once they have settled."""
        self.page.evaluate(FRAMES)
        return self.page.evaluate(
            f"() => {{ {MODEL} return [find('view').x_range, find('view').y_range]"
            ".map(({start, end}) => [start, end]); }"
        )

    def look_at(self, xs, ys) -> Seen:
        """Moves the view by its ranges."""
        self.page.evaluate(
            f"([xs, ys]) => {{ {MODEL} const {{x_range, y_range}} = find('view');"
            "x_range.setv({start: xs[0], end: xs[1]}); y_range.setv({start: ys[0], end: ys[1]}); }",
            [xs, ys],
        )
        return self.drawn()

    def pixel_of(self, seconds: float, position: float) -> tuple[float, float]:
        """Where a point is on the screen."""
        frame = self.page.evaluate(
            f"() => {{ {MODEL} const view = Bokeh.index.find_one(find('view'));"
            "const at = view.canvas_view.el.getBoundingClientRect(), box = view.frame.bbox;"
            "return {left: at.left + box.left, top: at.top + box.top, width: box.width,"
            "height: box.height}; }"
        )
        (x0, x1), (y0, y1) = self.ranges()
        x, y = (seconds - x0) / (x1 - x0), (position - y0) / (y1 - y0)
        return frame["left"] + x * frame["width"], frame["top"] + (1 - y) * frame["height"]

    def picture(self) -> np.ndarray:
        return pictures.imread(io.BytesIO(self.page.screenshot()), "png")[..., :3]

    def colours_at(self, seconds: float, position: float, around: int = 0) -> np.ndarray:
        """Of the pixel at a point, and of so many around it."""
        x, y = (int(place) for place in self.pixel_of(seconds, position))
        part = self.picture()[y - around : y + around + 1, x - around : x + around + 1]
        return part.reshape(-1, 3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    with ib.DirtyLog.open(long_log.make(folder / "long.parquet")) as log:
        plot.view(log).save(folder / "view.html")
    assert (folder / "view.html").stat().st_size < 10_000_000
    return folder / "view.html"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def shown(browser):
    """Opens a page, without a network."""
    context = browser.new_context(viewport={"width": 1200, "height": 700}, offline=True)

    def show(path) -> View:
        page = context.new_page()
        made = View(page)
        page.goto(path.as_uri())
        page.wait_for_function("() => window.Bokeh?.documents[0]?.is_idle")
        return made

    yield show
    context.close()


@pytest.fixture
def view(shown, saved):
    return shown(saved)


FIRST = (
    long_log.SWEEP_PAGES
)  # the position of the lonely pages: the longest gaps are cut to nothing


def test_all_of_it(view):
    """Each cell of the overview is what the sweep left there, and no lonely page is lost."""
    seen = view.drawn()
    width, height = int(10_000 / seen.dx + 0.5), int((FIRST + 4096) / seen.dy + 0.5)
    assert width > 400 and height > 200 and not seen.cells[height:].any()
    cells = seen.cells[:height, :width] > 0
    edges = seen.x + np.arange(width + 1) * seen.dx
    for column in range(0, width, 7):
        dirty = np.zeros(height, bool)
        first, last = int(edges[column] * 10 + 1e-6), int(np.ceil(edges[column + 1] * 10 - 1e-6))
        for epoch in range(first, last):
            page = epoch * long_log.SWEPT % long_log.SWEEP_PAGES
            dirty[int(page / seen.dy) : int(np.ceil((page + long_log.SWEPT) / seen.dy))] = True
        swept = int(FIRST / seen.dy)
        assert (cells[:swept, column] == dirty[:swept]).all(), column
    for epoch, page in long_log.ALONE:
        assert seen.part((epoch + 0.5) / 10, FIRST + page) > 0
        assert view.colours_at((epoch + 0.5) / 10, FIRST + page, around=3).min() < 0.6


def test_single_pages_exactly(view):
    """Zoomed in: each page of each epoch that is dirty is all dirty, and its neighbours are not."""
    seen = view.look_at([5431.95, 5432.55], [FIRST + 1990, FIRST + 2010])
    for epoch in range(54_320, 54_325):
        expected = {FIRST + page for number, page in long_log.ALONE if number == epoch}
        middle = (epoch + 0.5) / 10
        assert seen.pages(middle) == expected
        for position in range(FIRST + 1990, FIRST + 2010):
            assert seen.part(middle, position) == (255 if position in expected else 0)
    assert view.colours_at(5432.15, FIRST + 2000.5, around=2).max() < 0.5
    assert view.colours_at(5432.15, FIRST + 1999.5, around=2).min() > 0.85


def test_a_view_may_begin_within_an_epoch(view):
    seen = view.look_at([5432.17, 5432.19], [FIRST + 1990, FIRST + 2010])
    assert seen.pages(5432.18) == {FIRST + 2000}


def test_the_pointer_says_what_is_there(view):
    view.look_at([5431.95, 5432.55], [FIRST + 1990, FIRST + 2010])
    for epoch, page, state in ((54_321, 2000, "dirty"), (54_321, 2001, "clean")):
        view.page.mouse.move(*view.pixel_of((epoch + 0.5) / 10, FIRST + page + 0.5))
        said = view.page.evaluate(f"() => {{ {MODEL} return find('said').text; }}")
        address = long_log.LONELY + page * long_log.PAGE
        assert said == f"epoch {epoch}, page {address:#x}: {state}"


def test_wheel_and_drag(view):
    """By hand: the wheel magnifies about the pointer until single pages are seen; a drag moves."""
    target = 5432.35, FIRST + 2003.5
    before = view.drawn()
    for _ in range(300):
        _, (low, high) = view.ranges()
        if high - low < 40:
            break
        view.page.mouse.move(*view.pixel_of(*target))  # on a pixel, so aimed anew each time
        view.page.mouse.wheel(0, -800)
    seen = view.drawn()
    assert seen.xs[1] - seen.xs[0] < (before.xs[1] - before.xs[0]) / 1000
    assert seen.pages(target[0]) >= {FIRST + 2003} and FIRST + 2002 not in seen.pages(target[0])
    x, y = view.pixel_of(*target)
    view.page.mouse.move(x, y)
    view.page.mouse.down()
    view.page.mouse.move(x + 30, y + 60, steps=5)
    view.page.mouse.up()
    moved = view.drawn()
    assert moved.xs[0] < seen.xs[0] and moved.ys[0] > seen.ys[0]
    assert FIRST + 2003 in moved.pages(target[0])


def labels(view, positions) -> list[str]:
    return view.page.evaluate(
        f"(at) => {{ {MODEL} return find('view').left[0].formatter.doFormat(at, {{}}); }}",
        positions,
    )


def test_labels_are_addresses(view):
    text = labels(view, [0, 1, 256000, 256001])
    far = long_log.LONELY
    assert text == [
        f"{address:#x}" for address in (long_log.BASE, long_log.BASE + 4096, far, far + 4096)
    ]


def test_addresses_of_64_bits_and_a_hostile_name(shown, tmp_path):
    far = 2**64 - 2**20 + 5
    source = "</script><img src=x onerror=\"document.title='run'\">"
    with ib.LogWriter(tmp_path / "x", ib.Geometry(5, 2**64 - 6, 1), source=source) as log:
        log.append_ranges(np.array([[5, 3], [far, 2]], np.uint64), 0, 10**9)
    with ib.DirtyLog.open(tmp_path / "x") as log:
        plot.view(log).save(tmp_path / "view.html")
    view = shown(tmp_path / "view.html")
    block = 1 << 12  # of positions that are exact in JavaScript
    assert labels(view, [0, 1]) == [hex(5), hex(5 + (far - 5) // block * block)]
    assert view.drawn().pages(0.5) == {0, 1}
    assert "onerror" in view.page.title() and not view.page.query_selector("img")
