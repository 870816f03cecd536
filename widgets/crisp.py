"""Figures that are sharp on any screen, and readable on light and on dark ground."""

import base64
import io
from html import escape
from typing import Any

import matplotlib.pyplot as plt
from IPython.core.getipython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

GREY = "#7a7a7a"  # as far from white as from a dark theme's ground
_INKS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_GROUNDS = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
_LOOK: dict[str, Any] = {
    **dict.fromkeys(_INKS, GREY),
    **dict.fromkeys(_GROUNDS, "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 10),
}


def crisp_figures() -> None:
    """Show the figures of this notebook as SVG without a ground, in greys that both themes let one read."""
    set_matplotlib_formats()
    shell = get_ipython()
    if shell is not None and shell.display_formatter is not None:
        # Within HTML, because JupyterLab shows no bare SVG of a notebook that it does not trust yet.
        shell.display_formatter.formatters["text/html"].for_type(Figure, _figure_as_image)
    plt.style.use(_LOOK)


def as_image(svg: str, description: str) -> str:
    """An SVG as an HTML image that carries it whole: nothing is fetched, and no script of it would run."""
    coded = base64.b64encode(svg.encode()).decode("ascii")
    return f'<img alt="{escape(description)}" src="data:image/svg+xml;base64,{coded}">'


def _figure_as_image(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return as_image(stream.getvalue(), "; ".join(filter(None, (axes.get_title() for axes in figure.axes))))
