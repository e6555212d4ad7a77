# SPDX-License-Identifier: Apache-2.0
"""Settings of the documentation: Sphinx, tutorials run by MyST-NB, numpydoc docstrings, no network.

Links to the pages of other projects (intersphinx) are made where ``SSTFILL_INTERSPHINX`` is set:
their inventories come from the network whenever the pages are built, and where there is none, a
warning would fail the build.
"""

import os
import re
import sys
from importlib.metadata import version as installed
from pathlib import Path

import sphinx_autosummary_accessors

CODE = re.compile(r"(?<![`:])`([^`\n]+)`(?=\w)")

# The tutorials run the command `sstfill` as well, that of the Python that builds the pages.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.pop("MPLBACKEND", None)  # else a tutorial's own figures are not shown
os.environ["TQDM_DISABLE"] = "1"  # a page cannot overwrite a bar
os.environ["PYTHONWARNINGS"] = "ignore:numpy.ndarray size changed:RuntimeWarning"

project = "sstfill"
author = "the sstfill developers"
project_copyright = "the sstfill developers"
release = version = installed("sstfill")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_autosummary_accessors",
]
if os.environ.get("SSTFILL_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "xarray": ("https://docs.xarray.dev/en/stable", None),
    "dask": ("https://docs.dask.org/en/stable", None),
    "matplotlib": ("https://matplotlib.org/stable", None),
}
exclude_patterns = ["_build"]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]
default_role = "code"  # single backquotes in docstrings are code

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

nb_execution_mode = "force"  # a kept output may be that of an earlier sstfill
nb_execution_timeout = 600  # seconds a cell, on a busy machine; all pages take some minutes
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # no script from the network

autosummary_generate = True
autodoc_use_legacy_class_based = True  # sphinx_autosummary_accessors knows this form of autodoc
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_ivar = True  # an attribute is described once, in its class
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "sstfill"
html_theme_options = {
    "show_toc_level": 2,
    # Only pages of text: pictures and tables of notebooks need the width. A page may match one
    # pattern, and names that are written out.
    "secondary_sidebar_items": {
        "howto/*": ["page-toc"],
        "methods/*": ["page-toc"],
        "benchmarks/*": ["page-toc"],
        "architecture": ["page-toc"],
        "limitations": ["page-toc"],
        "howto/migrate": [],
    },
    "navigation_with_keys": False,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_static_path = ["_static"]
html_css_files = ["sstfill.css"]
html_show_sourcelink = False


def close_code(app, what, name, obj, options, lines):
    """Let a letter follow code in a docstring: a plural s after a class name, which
    reStructuredText does not allow.
    """
    lines[:] = [CODE.sub(r"`\1`\\ ", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", close_code)
    return {"parallel_read_safe": True}
