"""How Sphinx makes the site: `make docs`. What it takes from the library rather than from a page is in `made.py`.

Its source is the repository itself, so that a page is found, and its links hold, where the file lies: README is the
front page, the notebooks are the tutorials, as they were saved.
"""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

project = "L2GNet workbench"
author = copyright = "The L2GNet workbench contributors"
release = version_of("l2gnet")

extensions = ["myst_nb", "sphinx.ext.autodoc", "made"]
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/**/*.md",
    "notebooks/*.ipynb",
    "benchmarks/*.md",
]
exclude_patterns = [".*", "docs/_build", "runs", "cache", "widgets", "build", "dist"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # nbval keeps what was saved right
nb_ipywidgets_js = {}  # pictures stand for the viewers; this would be fetched from the network
html_math_renderer = "mathml"  # drawn by browsers themselves, where MathJax would be fetched

default_role = "code"  # docstrings quote as Markdown does
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!l2gnet\.).*|.*\.T")]  # the documentation of others lies on the network

html_theme = "furo"
html_title = f"L2GNet workbench {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
