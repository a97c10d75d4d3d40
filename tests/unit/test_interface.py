"""What the package shows: names, signatures, docstrings, stubs, named tuples and exceptions."""

from __future__ import annotations

import ast
import copy
import errno
import inspect
import pickle
from pathlib import Path

import pytest

from support.children import run_child
from support.pins import AnsweringPin
from support.under_test import engine_only, ib

FUNCTIONS = {
    "alloc": '(iova, length, page_size, data, *, window_pages=None, pin="none")',
    "nbytes_for": "(length, page_size)",
}
CONSTRUCTOR = '(iova, length, page_size=4096, data=None, *, window_pages=None, pin="none")'
METHODS = {
    "set": "(iova, length, *, clip=False, exclusive=False)",
    "clear": "(iova, length, *, clip=False, exclusive=False)",
    "test": "(iova)",
    "test_and_set": "(iova, length)",
    "count": "(iova=None, length=None)",
    "ranges": "(iova=None, length=None)",
    "for_each": "(fn, opaque=None, *, by_window=False)",
    "windows": "()",
    "reset": "()",
    "copy": "()",
    "free": "()",
    "view": '(dtype="u1")',
    "to_mask": "()",
}
ATTRIBUTES = [
    "iova",
    "length",
    "end",
    "page_size",
    "pgshift",
    "nbits",
    "nbytes",
    "window_pages",
    "pin",
    "freed",
    "window",
    "stats",
]
# Methods whose list of parameters may grow new keywords later: the ones above must stay.
GROWING = {"ranges"}


def parameters(signature: inspect.Signature) -> list[tuple]:
    """(name, kind, default) of each parameter but self."""
    return [
        (p.name, p.kind.name, p.default) for p in signature.parameters.values() if p.name != "self"
    ]


def expected(text: str) -> list[tuple]:
    return parameters(inspect.signature(eval(f"lambda {text[1:-1]}: 0")))


# --- signatures and docstrings -----------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_of_functions(name):
    assert parameters(inspect.signature(getattr(ib, name))) == expected(FUNCTIONS[name])


def test_signature_of_the_type():
    assert parameters(inspect.signature(ib.IOVABitmap)) == expected(CONSTRUCTOR)


@pytest.mark.parametrize("name", METHODS)
def test_signatures_of_methods(name):
    wanted = expected(METHODS[name])
    for method in (getattr(ib.IOVABitmap, name), getattr(ib.IOVABitmap(0, 1), name)):
        found = parameters(inspect.signature(method))
        if name in GROWING:
            assert all(kind == "KEYWORD_ONLY" for _, kind, _ in found[len(wanted) :])
            found = found[: len(wanted)]
        assert found == wanted


def test_everything_public_is_documented():
    documented = [ib, ib.alloc, ib.nbytes_for, ib.IOVABitmap, ib.PinError, ib.IOVARangeError]
    documented += [ib.Window, ib.Stats]
    documented += [getattr(ib.IOVABitmap, name) for name in (*METHODS, *ATTRIBUTES)]
    for thing in documented:
        text = inspect.getdoc(thing)
        assert text and len(text) > 10, thing


def test_attributes_are_descriptors_of_the_type():
    for name in ATTRIBUTES:
        assert inspect.isdatadescriptor(inspect.getattr_static(ib.IOVABitmap, name))


@engine_only.arrays
def test_numpy_is_loaded_when_the_first_array_is_asked_for():
    run_child(
        """
        import iovabitmap as ib
        bm = ib.alloc(0, 4096 * 64, 4096, bytearray(8))
        bm.set(0, 4096)
        assert bm.count() == 1 and bm == bm.copy() and repr(bm)
        assert "numpy" not in sys.modules
        assert bm.ranges().tolist() == [[0, 4096]]
        assert "numpy" in sys.modules
        """
    ).assert_lived("importing NumPy late")


# --- stubs -------------------------------------------------------------------------------------


def stub() -> ast.Module:
    path = Path(ib.__file__).with_name("_core.pyi")
    return ast.parse(path.read_text(encoding="utf-8"))


def stub_parameters(function: ast.FunctionDef) -> list[tuple]:
    """Names, kinds and whether there is a default."""
    arguments = function.args
    plain = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    optional = len(plain) - len(arguments.defaults)
    found = [(name, "POSITIONAL_OR_KEYWORD", n >= optional) for n, name in enumerate(plain)]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append((argument.arg, "KEYWORD_ONLY", default is not None))
    return [entry for entry in found if entry[0] not in ("self", "cls")]


def real_parameters(thing) -> list[tuple]:
    return [
        (name, kind, default is not inspect.Parameter.empty)
        for name, kind, default in parameters(inspect.signature(thing))
    ]


@engine_only.binding
def test_stubs_agree_with_the_signatures():
    body = stub().body
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    for name in FUNCTIONS:
        assert stub_parameters(functions[name]) == real_parameters(getattr(ib, name))
    methods: dict[str, list] = {}
    for node in classes["IOVABitmap"].body:
        if isinstance(node, ast.FunctionDef):
            methods.setdefault(node.name, []).append(node)
    assert stub_parameters(methods["__new__"][0]) == real_parameters(ib.IOVABitmap)
    for name in METHODS:
        overloads = len(methods[name]) > 1
        for node in methods[name]:
            found = stub_parameters(node)
            wanted = real_parameters(getattr(ib.IOVABitmap, name))
            if overloads:  # an overload may narrow a parameter to one value without a default
                found, wanted = ([p[:2] for p in both] for both in (found, wanted))
            assert found == wanted, name
    assert set(ATTRIBUTES) <= set(methods)


@engine_only.binding
def test_the_package_is_typed():
    assert Path(ib.__file__).with_name("py.typed").exists()


# --- named tuples ------------------------------------------------------------------------------


def test_named_tuples():
    bm = ib.IOVABitmap(0, 1 << 30)
    assert bm.window is None
    bm.set(0, 1)
    for value, names in (
        (bm.window, ("iova", "length", "base_index", "pgoff", "npages")),
        (bm.stats, ("pins", "unpins", "pinned_pages", "peak_pinned_pages", "moves")),
    ):
        assert isinstance(value, tuple) and len(value) == 5
        assert tuple(getattr(value, name) for name in names) == tuple(value)
        assert all(type(item) is int for item in value)
        text = repr(value)
        assert all(f"{name}=" in text for name in names)
        assert type(value)(*value) == value or type(value)(value) == value
        assert pickle.loads(pickle.dumps(value)) == value
        with pytest.raises(AttributeError):
            setattr(value, names[0], 1)


# --- exceptions --------------------------------------------------------------------------------


def test_the_family_of_exceptions():
    assert issubclass(ib.PinError, OSError) and issubclass(ib.IOVARangeError, ValueError)
    assert not issubclass(ib.PinError, ValueError)


def range_error() -> ib.IOVARangeError:
    with pytest.raises(ib.IOVARangeError) as caught:
        ib.IOVABitmap(0x1000, 0x10000).set(0xABC123, 0x456)
    return caught.value


def pin_error() -> ib.PinError:
    answers = iter([1, OSError(errno.EIO, "injected")])

    def answer(_):
        value = next(answers)
        if isinstance(value, OSError):
            raise value
        return value

    bm = ib.IOVABitmap(2**64 - 2**30, 2**30, 64, window_pages=1, pin=AnsweringPin(answer))
    with pytest.raises(ib.PinError) as caught:
        bm.set(bm.iova + 5, bm.length - 5)
    return caught.value


def test_attributes_of_a_range_error():
    error = range_error()
    assert (error.iova, error.length) == (0xABC123, 0x456)
    assert "abc123" in str(error).lower() or str(0xABC123) in str(error)


def test_attributes_of_a_pin_error():
    error = pin_error()
    assert error.errno == errno.EIO and error.strerror
    assert error.iova + error.length == 2**64 and error.iova > 2**63
    assert error.newly == (error.iova - (2**64 - 2**30)) // 64 > 0
    assert f"{error.iova:x}" in str(error).lower() or str(error.iova) in str(error)
    assert isinstance(error.__cause__, OSError) and error.__cause__.strerror == "injected"


@pytest.mark.parametrize("make", [range_error, pin_error])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_exceptions_can_be_pickled(make, protocol):
    error = make()
    for twin in (
        pickle.loads(pickle.dumps(error, protocol=protocol)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(twin) is type(error) and str(twin) == str(error)
        assert (twin.iova, twin.length) == (error.iova, error.length)
        if isinstance(error, ib.PinError):
            assert (twin.errno, twin.newly) == (error.errno, error.newly)
