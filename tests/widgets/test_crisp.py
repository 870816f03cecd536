import base64
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from urllib.parse import unquote

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l2gnet.widgets.crisp import _LOOK, _steps, as_image, figure_as_image
from PIL import Image


class Images(HTMLParser):
    def handle_starttag(self, tag, attributes):
        self.tag, self.attributes = tag, dict(attributes)


def read(html):
    """The attributes of an image, and the SVG that it carries."""
    parser = Images()
    parser.feed(html)
    assert parser.tag == "img"
    kind, _, content = parser.attributes["src"].partition(",")
    assert kind == "data:image/svg+xml"
    return parser.attributes["alt"], unquote(content)


@pytest.mark.parametrize("text", ["Sand & <holes>", "50 % of 'it'", "ε = 0.001 #1"])
def test_an_image_carries_its_svg_whole(text):
    svg = ET.tostring(text_element(text), encoding="unicode")
    alt, carried = read(as_image(svg, f'"{text}"'))
    assert alt == f'"{text}"'
    assert "".join(ET.fromstring(carried).itertext()) == text


def text_element(text):
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
    ET.SubElement(root, "text", {"x": "1.5"}).text = text
    return root


@pytest.fixture
def figure():
    with plt.style.context(_LOOK):
        figure, axes = plt.subplots()
        axes.plot([0, 0.123456], [0, 0.987654])
        axes.imshow(np.eye(3), extent=(0, 1, 0, 1))
        axes.set(title="cost 0.08154", xlabel="ε")
        yield figure
    plt.close(figure)


def test_a_figure_says_what_it_is_in_text_that_keeps_its_digits(figure):
    alt, svg = read(figure_as_image(figure))
    assert alt == "cost 0.08154"
    assert {"cost 0.08154", "ε"} <= {text.strip() for text in ET.fromstring(svg).itertext()}


def test_a_figure_has_no_ground_of_its_own_and_images_keep_their_size(figure):
    _, svg = read(figure_as_image(figure))
    assert "#ffffff" not in svg
    image = next(element for element in ET.fromstring(svg).iter() if element.tag.endswith("image"))
    box = figure.axes[0].get_window_extent()
    scale = float(image.attrib["transform"].removeprefix("matrix(").split()[0])
    assert scale * float(image.attrib["width"]) == pytest.approx(box.width * 72 / figure.dpi, rel=0.05)


def test_scans_are_light_and_small_pictures_are_exact(figure):
    few = read(figure_as_image(figure))[1]
    assert "data:image/png" in few
    figure.axes[0].imshow(np.random.default_rng(0).random((96, 96)), cmap="gray")
    many = read(figure_as_image(figure))[1]
    assert len(many) - len(few) < 12_000
    assert "data:image/jpeg" in many


def test_a_layer_that_one_sees_through_stays_so_and_becomes_light(figure):
    place = np.random.default_rng(0).random((400, 2))
    figure.axes[0].scatter(*place.T, c=place[:, 0], cmap="viridis", s=20, rasterized=True)
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    before, after = heaviest(stream.getvalue()), heaviest(read(figure_as_image(figure))[1])
    assert len(after) < len(before) / 2
    one, two = (np.asarray(Image.open(io.BytesIO(layer)).convert("RGBA")).astype(int) for layer in (before, after))
    assert (two[..., 3] == 0).mean() == pytest.approx((one[..., 3] == 0).mean(), abs=0.02)
    assert np.abs(one - two)[one[..., 3] == 255].mean() < 3


def heaviest(svg):
    """The largest PNG in an SVG."""
    return base64.b64decode(max(re.findall(r"data:image/png;base64,([\w+/=\s]+)", svg), key=len))


def places(path):
    """Where an SVG path of moves and lines goes, absolute or in steps, by the rules of the standard."""
    at, found = np.zeros(2), []
    for letter, numbers in re.findall(r"([MLlz])([^A-Za-z]*)", path):
        for step in np.reshape([float(number) for number in numbers.split()], (-1, 2)):
            at = step + at * (letter == "l")
            found.append(at)
    return np.array(found)


numbers = st.floats(-2000, 2000).map(lambda number: round(number, 6))


@given(st.lists(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30), min_size=1, max_size=3))
def test_lines_stay_where_they_are_however_long_they_go_on(lines):
    path = "".join("M" + " L ".join(f" {x:.6f} {y:.6f} \n" for x, y in line) + "z\n" for line in lines)
    assert np.abs(places(_steps(path)) - [place for line in lines for place in line]).max() < 0.0501


def test_curves_stay_as_they_are_and_lines_go_on_from_their_ends():
    assert _steps("M 0 0.52 \nC 1 1 2.04 2 10 10 \nQ 1 1 2 2 \nL 2.5 2 \nL 0.5 -2 \nz") == (
        "M0 .5C1 1 2 2 10 10Q1 1 2 2l.5 0 -2 -4z"
    )
