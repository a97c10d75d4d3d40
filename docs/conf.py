"""Settings of Sphinx for `make docs`."""

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
html_theme_options = {"show_prev_next": False}
html_copy_source = False
html_show_sourcelink = False
