"""Settings of Sphinx for `make docs`."""

import re
import tomllib
from pathlib import Path

_project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())["project"]

project = _project["name"]
author = _project["authors"][0]["name"]
copyright = f"2026, {author}"  # noqa: A001  # Sphinx's name
release = _project["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True
# Of other projects' types there is no inventory at hand: building needs no network.
nitpick_ignore_regex = [("py:.*", r"(?!iovabitmap\.).*")]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say it, with units
napoleon_google_docstring = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # a word of a docstring's type line, such as iova, is no link

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_theme_options = {"show_prev_next": False, "header_links_before_dropdown": 4}
html_sidebars = {"*": [], "reference/*": ["sidebar-nav-bs"]}  # others have no neighbours
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False


def _list_names(app, what, name, obj, options, lines):  # noqa: ARG001  # as Sphinx calls it
    """Attributes that share a line of a docstring, `a, b : int`, are a list of their own: napoleon
    takes all but the last name for a type."""
    for number, line in enumerate(lines):
        found = re.fullmatch(r":ivar (\w+(?:, \w+)+): (.*)", line)
        if found:
            lines[number] = f":ivar {found[1].replace(', ', '/')}: {found[2]}"


def setup(app):
    app.connect("autodoc-process-docstring", _list_names, priority=900)  # after napoleon
