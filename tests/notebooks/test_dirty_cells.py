"""Cells under `%%dirty` do what they do without: each is run by a real IPython shell both ways, and
what it shows, returns and leaves behind is compared."""

from __future__ import annotations

import json
import textwrap

import pytest

from iovabitmap.sources import ProcessTracker
from support.children import run_child
from support.logs import needs
from support.notebooks import execute

needs("IPython", "pyarrow")
CAN = ProcessTracker.probe()
pytestmark = pytest.mark.skipif(not CAN, reason=CAN.reason)

SHELL = """
import re
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell = InteractiveShell.instance(colors="nocolor")
shell.run_line_magic("load_ext", "iovabitmap")
shell.run_cell("x = 0", store_history=True)

def run(cell, store_history=True):
    with capture_output() as captured:
        result = shell.run_cell(cell, store_history=store_history)
    outputs = [o.data for o in captured.outputs]
    others = [data for data in outputs if "Dirtied" not in data.get("text/html", "")]
    return result, captured.stdout, others, len(outputs) - len(others)

def seen(cell):
    run("x = 0\\n40 + 2")
    number = shell.execution_count
    result, text, others, count = run(cell)
    # Numbers of cells and times differ from run to run.
    text = re.sub(r"(In|Out|Cell In) ?\\[%d\\]" % number, r"\\1[N]", text)
    text = re.sub(r"-+>? ?\\d+|line \\d+|^ +\\d+ |[\\d.]+ [num]?s\\b|.s\\b", "", text, flags=re.M)
    # What a traceback shows of the cell has the call that begins the recording, as for any magic.
    text = text.replace("get_ipython().run_line_magic('dirty', '')", "")
    text = "\\n".join(line.rstrip() for line in text.splitlines() if line.strip())
    error = type(result.error_before_exec or result.error_in_exec)
    assert shell.execution_count == number + 1
    out = shell.user_ns["_oh"].get(number), shell.user_ns["_"]
    return (text, others, error, repr(result.result), repr(out)), count
"""


def in_a_shell(code: str) -> None:
    run_child(SHELL + textwrap.dedent(code)).assert_lived("%%dirty")


CELLS = {
    "nothing": "# a remark",
    "statement": "x = 1",
    "last expression": "x = 1\nx + 2",
    "expression in the middle": "x + 1\nx = 3",
    "semicolon": "x + 2;",
    "semicolon and comment": "x + 2; # quiet",
    "semicolon in a text": "'a;'",
    "printed": "print('said')\n7",
    "history": "_ + 1",
    "await": "import asyncio\nawait asyncio.sleep(0)\nx = 4\nx",
    "async for": "async def g():\n    yield 6\n[n async for n in g()]",
    "future": "'text'\nfrom __future__ import annotations\ndef f(a: no): ...\nf.__annotations__",
    "future unclosed": "from __future__ import annotations\nx = (",
    "future in a text": "'__future__'",
    "indented": "    x = 8\n    x",
    "line magic": "%alias_magic -l tt time\nx",
    "assigned magic": "found = %pwd\nx",
    "shell": "found = !echo from the shell\nfound[0]",
    "cell magic": "%%capture caught\nprint('hidden')\n9",
    "writefile": "%%writefile /dev/null\nif: this is no Python",
    "displayed": "from IPython.display import display, HTML\ndisplay(HTML('<b>mine</b>'))\n1",
    "raises": "y = 1\nraise LookupError('mine')",
    "raises below": "def f():\n    raise LookupError('mine')\n\nf()",
    "syntax": "if:",
    "unclosed": "x = (1,",
    "indentation": "x = 1\n    y = 2",
    "usage": "%no_such_magic",
    "interrupted": "raise KeyboardInterrupt",
    "left": "raise SystemExit(0)",
    "help": "x?",
}
UNREADABLE = (
    "syntax",
    "future unclosed",
    "unclosed",
    "indentation",
)  # nothing of such a cell is run


@pytest.fixture(scope="module")
def both_ways():
    """What is seen of each cell, without and with `%%dirty`, and how many recordings were shown."""
    done = run_child(
        SHELL
        + textwrap.dedent(
            f"""
            import json, sys, threading, warnings
            warnings.simplefilter("ignore")
            found = {{}}
            for name, cell in {CELLS!r}.items():
                plain, _ = seen(cell)
                recorded, shown = seen("%%dirty\\n" + cell)
                left = [each.name for each in threading.enumerate() if "%%dirty" in each.name]
                found[name] = plain, recorded, shown, left
            print("found:" + json.dumps(found, default=repr), file=sys.stderr)
            """
        )
    )
    done.assert_lived("%%dirty")
    return json.loads(done.stderr.partition("found:")[2])


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_does_what_it_does_without(both_ways, name):
    plain, recorded, shown, left = both_ways[name]
    assert recorded == plain and not left
    assert shown == (0 if name in UNREADABLE else 1)


@pytest.mark.parametrize("how", ["all", "last", "last_expr", "none", "last_expr_or_assign"])
def test_ast_node_interactivity(how):
    in_a_shell(
        f"""
        shell.ast_node_interactivity = {how!r}
        for cell in ("1\\n2\\nx = 3", "1\\n2", "x = 5"):
            plain, _ = seen(cell)
            recorded, count = seen("%%dirty\\n" + cell)
            assert recorded == plain and count == 1, (plain, recorded)
        """
    )


def test_errors_are_shown_once_and_at_their_line():
    in_a_shell(
        """
        result, text, _, count = run("%%dirty\\ny = 1\\nraise LookupError('mine')")
        assert text.count("Traceback") == 1 and text.count("LookupError: mine") == 1, text
        assert "----> 3 raise LookupError('mine')" in text and count == 1
        assert "jupyter.py" not in text and "hidden" not in text
        result, text, _, count = run("%%dirty\\nif:")
        assert text.count("SyntaxError") == 1 and "line 2" in text and count == 0
        """
    )


def test_a_recording_in_a_recording_is_refused():
    """The cell ends there; what was recorded until then is shown, and the next cell is recorded."""
    in_a_shell(
        """
        for cell in ("%%dirty a\\n%%dirty b\\ny = 1", "%%dirty a\\n%dirty b\\ny = 1"):
            result, text, _, count = run(cell)
            assert "already" in str(result.error_in_exec) and count == 1
            assert "a" in shell.user_ns and "b" not in shell.user_ns and "y" not in shell.user_ns
        assert run("%%dirty b\\ny = 1")[3] == 1 and "b" in shell.user_ns
        """
    )


@pytest.mark.parametrize("outer", ["%%time", "%%capture --no-display", "%%prun -q"])
def test_below_another_cell_magic(outer):
    in_a_shell(
        f"""
        result, text, _, count = run({outer!r} + "\\n%%dirty log\\ny = bytearray(1 << 20)\\ny[0]")
        assert result.success, text
        assert "log" in shell.user_ns and shell.user_ns["y"] is not None
        import threading
        assert not [each for each in threading.enumerate() if "dirty" in each.name]
        """
    )


def test_cells_that_a_cell_runs_do_not_end_the_recording():
    in_a_shell(
        """
        for inner in ("%%capture\\nz = 1", "get_ipython().run_cell('z = 1')"):
            shell.user_ns.pop("log", None)
            result, text, _, count = run("%%dirty log\\n" + inner)
            assert result.success and count == 1 and shell.user_ns["log"].union().any()
        result, text, _, count = run(
            "%%dirty log\\nget_ipython().run_cell('z = 2')\\nassert 'log' not in globals()"
            .replace("log\\n", "other\\n").replace("'log'", "'other'")
        )
        assert result.success and count == 1 and "other" in shell.user_ns
        """
    )


def test_as_a_line_and_as_a_call():
    in_a_shell(
        """
        result, text, _, count = run("y = 1\\n%dirty --interval 20ms log\\ny = 2\\ny;")
        assert result.success and count == 1 and "log" in shell.user_ns and text == "", text
        result, text, _, count = run("get_ipython().run_cell_magic('dirty', 'here', 'y = 3')")
        assert result.success and count == 1 and "here" in shell.user_ns
        with capture_output():
            try:
                shell.run_cell_magic("dirty", "there", "y = 4\\nraise LookupError")
            except LookupError:
                assert "there" in shell.user_ns and shell.user_ns["y"] == 4
            else:
                raise AssertionError("not raised")
        """
    )


def test_names_of_python_in_the_line():
    in_a_shell(
        """
        run("wanted = 'log'; every = 0.02")
        assert run("%%dirty --interval {every} $wanted\\ny = 1")[0].success
        assert "log" in shell.user_ns
        """
    )


def test_intervals_that_are_none():
    in_a_shell(
        """
        for text in ("0", "0ms", "nan", "inf", "-1", "1e30", "x", "999999999h", "1.", "1,5", "٣"):
            result, said, _, count = run(f"%%dirty --interval={text}\\ny = 1")
            assert type(result.error_in_exec).__name__ == "UsageError", (text, result)
            assert count == 0 and "y" not in shell.user_ns and "Traceback" not in said
        """
    )


@pytest.mark.parametrize("shape", [(0,), (0, 1 << 20), (1 << 20, 0), (3, 0, 1 << 16)])
def test_an_empty_array_is_not_dirty(shape):
    in_a_shell(
        f"""
        run("import numpy as np; held = np.ones(1 << 24, 'u1')")
        run("empty = np.lib.stride_tricks.as_strided(held, {shape}, (1,) * {len(shape)})")
        run("other = np.empty({shape}); part = held[:0]; flipped = held.reshape(4, -1)[::-1, :0]")
        with capture_output() as captured:
            shell.run_cell("%%dirty\\nheld += 1")
        (text,) = [o.data["text/plain"] for o in captured.outputs]
        assert "  held " in text and text.count("uint8") == 1, text
        assert "  other " not in text
        """
    )


def test_in_a_kernel_await_works_and_an_error_stops_the_notebook(tmp_path):
    """A kernel has a running event loop, which a cell shares."""
    needs("nbclient", "ipykernel")
    import nbformat
    from nbclient.exceptions import CellExecutionError

    cells = [
        "%load_ext iovabitmap",
        "%%dirty log\nimport asyncio\nawait asyncio.sleep(0.01)\nvalue = 5\nvalue",
        "assert value == 5 and _ == 5 and len(log)",
        "%%dirty\nvalue;",
        "%%dirty\nraise LookupError('mine')",
        "never = 1",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    with pytest.raises(CellExecutionError) as raised:
        execute(notebook, tmp_path)
    assert raised.value.ename == "LookupError"
    kinds = [[output.output_type for output in cell.outputs] for cell in notebook.cells]
    assert sorted(kinds[1]) == ["display_data", "execute_result"]
    assert kinds[3] == ["display_data"]
    assert sorted(kinds[4]) == ["display_data", "error"] and kinds[5] == []
