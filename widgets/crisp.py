"""Figures that are sharp on any screen, and readable on light and on dark ground."""

import base64
import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import Any
from urllib.parse import quote

import matplotlib.pyplot as plt
from IPython.core.getipython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image

GREY = "#7a7a7a"  # as far from white as from a dark theme's ground
_MANY = 64**2  # pixels
_INKS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_GROUNDS = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
_LOOK: dict[str, Any] = {
    **dict.fromkeys(_INKS, GREY),
    **dict.fromkeys(_GROUNDS, "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "image.interpolation": "none",  # a pixel of an array stays one, however large it is drawn
    "svg.fonttype": "none",  # text stays text: small, and sharp in the font of the reader
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 10),
}


def crisp_figures() -> None:
    """Show the figures of this notebook as SVG without a ground, in greys that both themes let one read."""
    set_matplotlib_formats()
    shell = get_ipython()
    if shell is not None and shell.display_formatter is not None:
        # Within HTML, because JupyterLab shows no bare SVG of a notebook that it does not trust yet.
        shell.display_formatter.formatters["text/html"].for_type(Figure, figure_as_image)
    plt.style.use(_LOOK)


def crisp_look() -> AbstractContextManager[None]:
    """What is drawn within it can be read on light and on dark ground."""
    return plt.style.context(_LOOK)


def as_image(svg: str, description: str, *, width: str = "") -> str:
    """An SVG as an HTML image that carries it whole: nothing is fetched, and no script of it would run.

    It is as wide as it says itself, or as `width` does, in pixels or in per cent of what is around it.
    """
    if "'" not in svg:
        svg = svg.replace('"', "'")  # which need no code
    coded = quote(svg, safe=" !$'()*+,-./:;=?@[]^_`{|}~")
    size = f' width="{width}"' if width else ""
    return f'<img alt="{escape(description)}"{size} src="data:image/svg+xml,{coded}">'


def figure_as_image(figure: Figure) -> str:
    """A figure as an HTML image, drawn as SVG."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = re.sub(r"<[^>]*>", _shorter, stream.getvalue()[stream.getvalue().index("<svg") :])
    svg = re.sub(r">\s+<", "><", re.sub(r"data:image/png;base64,([\w+/=\s]+)", _lighter, svg))
    return as_image(svg, "; ".join(filter(None, (axes.get_title() for axes in figure.axes))))


def _shorter(tag: re.Match[str]) -> str:
    """A tag without what nobody sees: digits beyond a tenth of a point, white space, names of groups, quoted fonts."""
    text = re.sub(r' d="([^"]*)"', lambda path: f' d="{_steps(path[1])}"', tag[0])
    text = re.sub(r' (x|y)="[^"]*"', lambda places: re.sub(r"(\.\d)\d+", r"\1", places[0]), text)
    text = re.sub(r"\s+", " ", text).replace(' "', '"')
    return re.sub(r"'([\w ]+)'", r"\1", re.sub(r'^<g id="[^"]*"', "<g", text))


def _steps(path: str) -> str:
    """A path to a tenth of a point, its lines as steps from point to point, which take half the digits."""
    text, before, at = "", "", [0, 0]  # tenths
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        tenths = [round(10 * float(number)) for number in numbers.split()]
        line = letter == "L"
        shown = [tenths[0] - at[0], tenths[1] - at[1]] if line else tenths
        kind = "l" if line else letter
        text += (" " if kind == before else kind) + " ".join(f"{number / 10:g}" for number in shown)
        before, at = kind, tenths[-2:] or at
    return re.sub(r"(?<!\d)0\.", ".", text)


def _lighter(png: re.Match[str]) -> str:
    """An embedded picture of many pixels in the lightest form: as full PNG, scans would fill a saved notebook."""
    image, stream = Image.open(io.BytesIO(base64.b64decode(png[1]))).convert("RGBA"), io.BytesIO()
    if image.width * image.height < _MANY:
        return png[0]
    opaque = image.getchannel("A").getextrema() == (255, 255)
    if opaque:
        image.convert("RGB").save(stream, "JPEG", quality=75)
    else:
        image.quantize(256).save(stream, "PNG", optimize=True)
    kind = "jpeg" if opaque else "png"
    return min(f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}", png[0], key=len)
