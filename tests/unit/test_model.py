"""What the model answers by itself, without the arrays that other tests see it through."""

from __future__ import annotations

import inspect
import pickle

import pytest

import iovabitmap as ib
from iovabitmap import model
from iovabitmap.model import ModelBitmap
from support.children import run_child
from support.expected import TOP


def small() -> ModelBitmap:
    return ModelBitmap.from_text("0,7-8,19", 0x1800, 20 * 4096 - 100)


def test_it_needs_no_numpy():
    run_child(
        """
        sys.modules["numpy"] = None
        import pickle
        from iovabitmap.model import ModelBitmap, alloc, nbytes_for
        data = bytearray(nbytes_for(64 * 4096, 4096))
        with alloc(0, 64 * 4096, 4096, data, window_pages=1) as bm:
            bm.set_ranges([(0, 4096), (9 * 4096, 5)])
            assert bm.ranges() == [(0, 4096), (9 * 4096, 4096)] == list(bm.iter_ranges())[0]
            assert pickle.loads(pickle.dumps(bm)) == bm == bm.copy() and repr(bm)
            assert bm.diff(bm).common_ranges() == bm.ranges()
            assert bm.to_mask().count(True) == sum(bm.histogram(3)) == len(bm.pages()) == 2
            assert bm.view()[0] == 1 and bm.view("u8")[0] == 0x201
            assert len(bm.read_and_clear()) == 2 and not bm.any()
        """
    ).assert_lived("the model without NumPy")


def test_answers_are_plain():
    bm = small()
    rows = [(0x1800, 4096), (0x1800 + 7 * 4096, 8192), (0x1800 + 19 * 4096, 3996)]
    assert bm.ranges() == rows and list(bm.iter_ranges(batch=2)) == [rows[:2], rows[2:]]
    assert bm.ranges(dirty=False)[0] == (0x2800, 6 * 4096)
    assert bm.pages() == [0x1800 + page * 4096 for page in (0, 7, 8, 19)]
    assert bm.to_mask() == [page in (0, 7, 8, 19) for page in range(20)]
    assert bm.histogram(2) == [3, 1]
    view = bm.view()
    assert type(view) is memoryview and bytes(view) == b"\x81\x01\x08" and not view.readonly
    view[0] = 0
    assert bm.to_text() == "8,19"
    assert bm.read_and_clear() == [(0x1800 + 8 * 4096, 4096), rows[2]]
    assert repr(bm) == 'ModelBitmap.from_text("", 0x1800, 0x13f9c, 4096)'
    old = small()
    assert repr(bm.diff(old)) == "ModelDiff(appeared=0, disappeared=4, common=0)"
    assert bm.diff(old).disappeared_ranges() == rows


def test_its_exceptions_and_tuples_are_those_of_the_engine():
    bm = small()
    with pytest.raises(ib.IOVARangeError):
        bm.set(0, 1)
    assert type(bm.stats) is ib.Stats
    bm.set(0x1800, 1)
    assert type(bm.window) is ib.Window and bm.stats.moves == 1
    assert all(type(window) is ib.Window for window in bm.windows())


def test_messages_are_those_of_the_engine():
    calls = (
        lambda bm: bm.set(0, 1),
        lambda bm: bm.set(-1, 1),
        lambda bm: bm.set(0x1800, TOP),
        lambda bm: bm.count(1.5),
        lambda bm: bm.set_ranges([(0x1800, 1), (0, 7)]),
        lambda bm: bm.set_pages([0x1800, 5]),
        lambda bm: bm.ranges(bm.end, 1),
        lambda bm: bm.find_dirty(bm.end + 1),
        lambda bm: type(bm)(0, 0),
        lambda bm: type(bm)(TOP - 1, 2),
        lambda bm: type(bm)(0, 4096, 3),
        lambda bm: type(bm)(0, 4096 * 9, 4096, bytearray(1)),
        lambda bm: type(bm)(0, 4096, pin="no such"),
        lambda bm: bm.iter_ranges(batch=0),
        lambda bm: bm.iter_ranges(batch=2**60),
        lambda bm: bm.iter_ranges(batch=2**64),
        lambda bm: bm.from_text("7", 0, 4096),
        *(
            lambda bm, text=text: bm.from_text(text, 0, 8 * 4096)
            for text in (
                *("a", ",", "1,", " 1 , ", "1,,2", "-", "1-", "2-1", "1 2", "1\v", "\u0663", "1,8"),
                *("1\0", "3, 4-\ud800", " 1,\t2\r\n,x" + 50 * "y", "1, \u00e9" + 38 * "z"),
                *("1" * 20, "1" * 21, "1" * 5000, "0-" + "9" * 5000, "5,18446744073709551615"),
            )
        ),
    )
    for call in calls:
        said = []
        for kind in (ib.IOVABitmap, ModelBitmap):
            with pytest.raises((ValueError, TypeError)) as caught:
                call(kind(0x1800, 20 * 4096 - 100))
            said.append((type(caught.value), str(caught.value)))
        assert said[0] == said[1]


def public(kind: type) -> dict[str, object]:
    names = [name for name in dir(kind) if not name.startswith("_")]
    return {name: inspect.getattr_static(kind, name) for name in names}


def test_it_has_the_names_of_the_engine():
    engine, twin = public(ib.IOVABitmap), public(ModelBitmap)
    assert engine.keys() == twin.keys()
    for name in engine:
        assert inspect.isdatadescriptor(engine[name]) == inspect.isdatadescriptor(twin[name]), name
        of_engine, of_model = (getattr(kind, name) for kind in (ib.IOVABitmap, ModelBitmap))
        assert inspect.getdoc(of_model), name
        if callable(of_engine):
            wanted, found = (
                [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()][
                    name != "from_text" :
                ]
                for f in (of_engine, of_model)
            )
            assert found == wanted, name


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("_present", lambda held: held._replace(npages=held.npages + 9), "window"),
        ("_present", lambda held: held._replace(address=held.address + 1), "window"),
        ("_present", lambda held: held._replace(end=held.end - 1), "window"),
        ("_present", lambda held: None, "stats"),
        ("_pinned", lambda pinned: pinned + 1, "stats"),
        ("_peak", lambda peak: 0, "stats"),
        ("_pins", lambda pins: pins + 1, "stats"),
    ],
)
def test_validate_names_what_is_broken(name, value, said):
    bm = small()
    bm.set(0x1800, 1)
    bm.validate()
    kept = getattr(bm, name)
    setattr(bm, name, value(kept))
    with pytest.raises(AssertionError, match=f"^{said}: "):
        bm.validate()
    setattr(bm, name, kept)
    bm.validate()


def test_subclasses_and_pickles():
    assert type(pickle.loads(pickle.dumps(small()))) is ModelBitmap
    assert model.alloc(0, 64, 1, bytearray(8)) == ModelBitmap(0, 64, 1)
    with pytest.raises(TypeError):
        model.alloc(0, 64, 1, None)


def test_it_is_not_the_engine():
    """The two are never taken for each other: an answer would be that of one of them."""
    engine, twin = ib.IOVABitmap(0, 4096), ModelBitmap(0, 4096)
    assert engine != twin and twin != engine
    for call in (engine.merge, engine.diff, engine.count_and):
        with pytest.raises(TypeError):
            call(twin)
    for call in (twin.merge, twin.diff, twin.count_and):
        with pytest.raises(TypeError):
            call(engine)
    with pytest.raises(TypeError):
        twin |= engine
    with pytest.raises(TypeError):
        twin.read_and_clear(into=engine)
