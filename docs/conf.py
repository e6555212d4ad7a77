# SPDX-License-Identifier: Apache-2.0
"""Settings of the documentation: Sphinx and MyST, autodoc from numpydoc docstrings, no network."""

import re
from importlib.metadata import version as installed

CODE = re.compile(r"(?<![`:])`([^`\n]+)`(?=\w)")

project = "sstfill"
author = "the sstfill developers"
project_copyright = "the sstfill developers"
release = version = installed("sstfill")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # single backquotes in docstrings are code

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_ivar = True  # an attribute is described once, in its class
napoleon_use_rtype = False

html_theme = "alabaster"
html_theme_options = {
    "description": "Fills the gaps that clouds leave in satellite series, "
    "and estimates the error of each filled pixel",
    "fixed_sidebar": True,
    "page_width": "1080px",
    "sidebar_width": "240px",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sourcelink = False


def close_code(app, what, name, obj, options, lines):
    """Let a letter follow code in a docstring: a plural s after a class name, which
    reStructuredText does not allow.
    """
    lines[:] = [CODE.sub(r"`\1`\\ ", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", close_code)
    return {"parallel_read_safe": True}
