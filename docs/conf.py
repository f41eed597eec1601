"""Settings of the documentation's site: `sphinx-build -W --keep-going -n docs build/docs`."""

from __future__ import annotations

from mltrain.core.version import __version__

project = "mltrain"
copyright = "the authors of mltrain"
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"mltrain {__version__}"
html_copy_source = False
html_show_sphinx = False
