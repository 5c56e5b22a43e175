"""Sphinx configuration of `make docs`. The site loads nothing from the network: the theme uses the fonts of the system."""

from __future__ import annotations

from microseg import __version__

project = "microseg"
author = "microseg contributors"
copyright = author  # the name is Sphinx's
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
# Two hyphens stay two hyphens: options are read and typed.
smartquotes = False

# Docstrings write `code` as Markdown does.
default_role = "code"

autodoc_class_signature = "separated"  # results are returned, not made: their constructors are no part of the API
autodoc_default_options = {"exclude-members": "__init__"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"microseg {version}"
# Tables of figures are wider than text.
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
