"""Configuration of the documentation, read by Sphinx."""

from importlib.metadata import version as _version

project = "opgrad"
author = "The opgrad developers"
project_copyright = f"2026, {author}"
release = version = _version("opgrad")

extensions = ["myst_parser"]
myst_heading_anchors = 2
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"opgrad {version}"
