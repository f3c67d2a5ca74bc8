"""Settings of the documentation: one Sphinx site that refers to nothing outside itself."""

from __future__ import annotations

import shutil
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = "tensorconv"
author = "the authors of tensorconv"
copyright = "the authors of tensorconv, BSD-3-Clause"  # noqa: A001 - Sphinx asks for this name
version = release = installed_version("tensorconv")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_nb"]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebooks are stored with what the tests compare

autosummary_generate = False
autodoc_default_options = {"members": True}
autodoc_typehints = "none"  # the docstrings have the types, with shapes
autodoc_preserve_defaults = True
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "tensorconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "tensorconv"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "quick_start": []}


def _inline(translator: Any, node: nodes.Node) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.Node) -> None:
    translator.body.append(f'<div class="equation" tabindex="0">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _copy_notebooks(app: Any) -> None:
    copies = Path(app.srcdir) / "notebooks"  # ignored by git: a site holds its sources in one folder
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    for notebook in sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb")):
        shutil.copy(notebook, copies)


def _end_blocks(app: Any, docname: str, source: list[str]) -> None:  # noqa: ARG001 - what Sphinx gives
    source[0] = source[0].replace("\n\n```\n", "\n```\n")  # a doctest needs the empty line, a reader does not


def setup(app: Any) -> None:
    """Take the notebooks along, and write equations as MathML, which browsers show without any script.

    Parameters
    ----------
    app : sphinx.application.Sphinx
        The build.
    """
    app.connect("builder-inited", _copy_notebooks)
    app.connect("source-read", _end_blocks)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
