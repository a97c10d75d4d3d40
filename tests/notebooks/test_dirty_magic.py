"""`%%dirty` in a real IPython shell, each in a process of its own, and in a notebook."""

from __future__ import annotations

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
import os, re
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell = InteractiveShell.instance()
assert shell.run_line_magic("load_ext", "iovabitmap") is None
assert "dirty" in shell.magics_manager.magics["cell"]

def run(cell):
    with capture_output() as captured:
        result = shell.run_cell(cell)
    return result, captured

def shown(captured):
    (output,) = [o for o in captured.outputs if "Dirtied" in o.data.get("text/html", "")]
    return output.data["text/plain"], output.data["text/html"]
"""


def in_a_shell(code: str) -> None:
    run_child(SHELL + textwrap.dedent(code)).assert_lived("%%dirty")


def test_a_cell_runs_and_what_it_dirtied_is_shown():
    in_a_shell(
        """
        made = "big = np.zeros(1 << 24, 'u1'); rest = np.ones(1 << 22, 'u1')"
        assert run(f"import numpy as np; {made}")[0].success
        cell = "big[: 1 << 23] = 7\\nvalue = 3\\nvalue + 4"
        result, captured = run("%%dirty --interval 0.01 found\\n" + cell)
        assert result.success, captured.stdout
        text, html = shown(captured)
        assert "Out[" in captured.stdout and "7" in captured.stdout
        assert shell.user_ns["value"] == 3
        log = shell.user_ns["found"]
        assert len(log) >= 1 and log.union().count() >= 2048
        (line,) = [each for each in text.splitlines() if each.strip().startswith("big ")]
        dirty = re.search(r"uint8 .*: ([0-9.]+) MiB of", line)
        assert 7.9 <= float(dirty[1]) <= 8, line
        assert not re.search("^ *rest ", text, re.M)
        assert "rate: " in text and "working set: " in text and html.count("<svg") == 2
        path = log.path
        assert path.exists()
        """
    )


def test_the_recording_itself_writes_little():
    """Less than the stack of its thread, which is new memory when it ends."""
    in_a_shell(
        """
        import threading
        from iovabitmap.recording import Recorder
        look, looks, enough = Recorder.look, [], threading.Event()
        def counted(self):
            look(self)
            looks.append(1)
            if len(looks) == 5:
                enough.set()
        Recorder.look = counted
        shell.user_ns["enough"] = enough
        run("%%dirty --interval 0.01 log\\nassert enough.wait(60)")
        assert [epoch.count() for epoch in shell.user_ns["log"]][-1] < 2000
        """
    )


def test_its_file_goes_with_the_log():
    in_a_shell(
        """
        run("%%dirty log\\nx = 1")
        path = shell.user_ns["log"].path
        assert path.exists()
        shell.user_ns["log"] = None
        shell.user_ns.pop("log")
        import gc
        shell.displayhook.flush(); gc.collect()
        assert not path.parent.exists()
        """
    )


def test_what_the_cell_raises_is_raised_and_what_was_recorded_is_shown():
    in_a_shell(
        """
        cell = "import numpy as np\\nmade = np.ones(1 << 22)\\nraise LookupError('mine')"
        result, captured = run("%%dirty log\\n" + cell)
        assert isinstance(result.error_in_exec, LookupError)
        assert "mine" in captured.stdout and "jupyter.py" not in captured.stdout
        text, _ = shown(captured)
        assert "made float64" in text and len(shell.user_ns["log"]) >= 1
        result, captured = run("%%dirty\\nraise KeyboardInterrupt")
        assert isinstance(result.error_in_exec, KeyboardInterrupt) and shown(captured)
        import threading
        assert not [t for t in threading.enumerate() if "dirty" in t.name]
        """
    )


@pytest.mark.parametrize("line", ["--interval 0", "--interval nan", "--interval x", "a-b", "a b"])
def test_arguments_that_are_none(line):
    in_a_shell(
        f"""
        result, captured = run("%%dirty {line}\\nran = 1")
        assert result.error_in_exec.__class__.__name__ == "UsageError", result
        assert "ran" not in shell.user_ns and not captured.outputs
        """
    )


def test_bad_syntax_records_nothing():
    in_a_shell(
        """
        result, captured = run("%%dirty\\nif:")
        assert isinstance(result.error_before_exec, SyntaxError) and not captured.outputs
        """
    )


def test_where_writes_cannot_be_tracked_it_says_so():
    in_a_shell(
        """
        from iovabitmap.sources import Probe, ProcessTracker
        ProcessTracker.probe = classmethod(lambda cls: Probe(False, "an old kernel"))
        result, captured = run("%%dirty\\nran = 1")
        assert "an old kernel" in str(result.error_in_exec) and "ran" not in shell.user_ns
        """
    )


def test_a_recording_that_fails_says_so_and_the_cell_goes_on():
    in_a_shell(
        """
        from iovabitmap.recording import Recorder
        look, calls = Recorder.look, []
        import threading
        failed = threading.Event()
        def fail(self):
            calls.append(1)
            if len(calls) == 2:
                failed.set()
                raise OSError(28, "disk full")
            look(self)
        Recorder.look = fail
        shell.user_ns["failed"] = failed
        result, captured = run("%%dirty --interval 0.001 log\\nassert failed.wait(60)\\nended = 1")
        assert result.success and shell.user_ns["ended"] == 1
        text, html = shown(captured)
        assert "ended early" in text and "disk full" in html and len(shell.user_ns["log"]) == 1
        """
    )


def test_in_a_notebook(tmp_path):
    needs("nbclient", "ipykernel")
    import nbformat

    cells = ["%load_ext iovabitmap", "%%dirty log\nimport numpy as np\na = np.ones(1 << 20)", "log"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    execute(notebook, tmp_path)
    html = [output["data"]["text/html"] for each in notebook.cells[1:] for output in each.outputs]
    assert "a" in html[0] and "float64 (1048576,)" in html[0] and html[1].count("<svg") == 2
