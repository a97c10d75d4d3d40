"""Settings of Sphinx for `make docs`."""

import tomllib
from pathlib import Path

_project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())["project"]

project = _project["name"]
author = _project["authors"][0]["name"]
copyright = f"2026, {author}"  # noqa: A001  # Sphinx's name
release = _project["version"]

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_theme_options = {"show_prev_next": False}
html_copy_source = False
html_show_sourcelink = False
