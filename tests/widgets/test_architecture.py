import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from l2gnet.widgets.architecture import Architecture, code_colours
from PIL import Image

from l2gnet import build_model

NAME = "{http://www.w3.org/2000/svg}"
LABELS = np.tile(np.array([0, 1, 2, 3], np.uint8), (64, 16))


def boxes(svg):
    """The pictures of a diagram, by the text over and under each."""
    root = ET.fromstring(svg)
    texts = [text.text for text in root.iter(f"{NAME}text")][1:]  # after that of the arrows
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image.attrib["href"].split(",")[1]))).convert("RGB"))
        for image in root.iter(f"{NAME}image")
    ]
    return list(zip(texts[::2], texts[1::2], pictures, strict=True))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("relation", ["send-receive", "symmetric"])
def test_each_box_holds_what_the_image_has_there(depth, relation):
    torch.manual_seed(0)
    options = {"codes": 32, "references": 8, "relation": relation, "receivers": "codes"}
    model = build_model("l2gnet", classes=4, width=4, depth=depth, **options).eval()
    image = torch.rand(1, 1, 64, 64)
    found = boxes(Architecture(model, image, LABELS).svg())
    names, shapes = [name for name, _, _ in found], [shape for _, shape, _ in found]
    levels = [f"level {i}" for i in range(depth)]
    assert names[: 2 * depth + 2] == ["image", *levels, *reversed(levels), "labels"]
    assert shapes[0] == "1 × 64 × 64"
    assert shapes[1] == shapes[2 * depth] == "4 × 64 × 64"
    side = 64 // 2**depth
    in_use = len(model.trace(image).latent.codes.unique())
    bottom = [f"codes: {in_use} in use", "plan T: codes send", "slots", "plan S: codes receive", "back to features"]
    assert names[2 * depth + 2 :] == ["features", *bottom]
    codes, send = found[2 * depth + 3][2], found[2 * depth + 4][2]
    assert codes.shape == (side, side, 3)
    assert len(np.unique(codes.reshape(-1, 3), axis=0)) <= in_use
    assert send.shape == (in_use, 8, 3)
    assert (found[0][2].astype(float) - 255 * image[0, 0].numpy()[..., None]).std() < 2  # one grey is one brightness
    assert len(np.unique(found[2 * depth + 1][2].reshape(-1, 3), axis=0)) == 4


def test_what_is_received_has_a_row_for_each_token():
    torch.manual_seed(0)
    model = build_model("l2gnet", classes=4, width=4, depth=2, codes=32, references=8).eval()
    image = torch.rand(1, 1, 64, 64)
    found = {name: picture for name, _, picture in boxes(Architecture(model, image, LABELS).svg())}
    in_use = len(model.trace(image).latent.codes.unique())
    assert found["plan T: codes send"].shape == (in_use, 8, 3)
    assert found["plan S: tokens receive"].shape == (128, 8, 3)  # of 256 tokens, as far as a box shows them


def test_codes_that_are_alike_have_like_colours_and_none_is_black():
    line = np.array([3.0, 0.0, 1.0, 2.0])[:, None] * np.array([[1.0, 2.0]])  # four codes along one axis
    colours = code_colours(line)
    far = np.linalg.norm(colours[:, None] - colours, axis=2)
    assert (far[1].argsort() == [1, 2, 3, 0]).all()
    assert code_colours(np.random.default_rng(0).normal(size=(200, 8))).max(1).min() > 0.5
    assert code_colours(line[:1]).shape == (1, 3)


def opened(html):
    """What each box shows when it is open: its name, its shape in letters and numbers, a file, and a picture."""
    parts = re.findall(
        r"<summary[^>]*>(.*?)</summary><p>.*?</b>, (.*?) = (.*?)\. .*?<code>(.*?)</code>.*?src=\"(.*?)\"", html
    )
    for name, letters, shape, file, address in parts:
        pixels = re.search(r"base64,([^']*)'", unquote(address))
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(pixels[1]))).convert("RGB"))
        yield name, (letters, shape, file, picture)


def test_each_box_opens_and_shows_the_whole_tensor():
    torch.manual_seed(0)
    model = build_model("l2gnet", classes=4, width=4, depth=2, codes=32, code_dim=16, references=8, heads=2).eval()
    diagram = Architecture(model, torch.rand(1, 1, 32, 32), LABELS[:32, :32])
    html = diagram._repr_html_()
    assert "<script" not in html
    found = list(opened(html))
    assert [name for name, _ in found] == [name for name, _, _ in boxes(diagram.svg())]
    assert len(found) == html.count("<details")
    assert all((Path(__file__).parents[2] / file).exists() for _, (_, _, file, _) in found)
    held = dict(found)
    assert held["image"][:2] == ("C × H × W", "1 × 32 × 32")
    assert held["level 1"][:2] == ("C × H/2 × W/2", "8 × 16 × 16")
    assert held["features"][0] == "C × h × w"
    assert held["slots"][:2] == ("heads × R × d/heads", "2 × 8 × 8")
    assert held["slots"][3].shape == (8, 2 * 8 + 1, 3)  # a tile a head, a line between them
    assert held["level 1"][3].shape == (2 * 16 + 1, 4 * 16 + 3, 3)  # a tile a channel
    assert held["plan T: codes send"][0] == "heads × codes in use × R"
    assert held["plan S: tokens receive"][:2] == ("heads × N × R", "2 × 64 × 8")


def test_places_to_click_lie_on_their_boxes():
    model = build_model("l2gnet", classes=4, width=4, depth=2, codes=16, references=4).eval()
    diagram = Architecture(model, torch.rand(1, 1, 32, 32), LABELS[:32, :32])
    sides = re.findall(r"left:([\d.]+)%;width:([\d.]+)%;height:0;margin-top:([\d.]+)%", diagram._repr_html_())
    drawn = [image.attrib for image in ET.fromstring(diagram.svg()).iter(f"{NAME}image")]
    for place, box in zip(sides, drawn, strict=True):
        assert [10 * float(side) for side in place] == pytest.approx(
            [float(box[name]) for name in ("x", "width", "y")], abs=0.6
        )


def test_a_model_without_plans_is_refused():
    with pytest.raises(ValueError, match="a model must have transport plans"):
        Architecture(build_model("unet", classes=4, width=4), torch.rand(1, 1, 64, 64), LABELS)
    model = build_model("l2gnet", classes=4, width=4, depth=3, codes=16, references=4, tokens_at=4)
    with pytest.raises(ValueError, match="deepest level, 3, got 2"):
        Architecture(model, torch.rand(1, 1, 64, 64), LABELS)


def test_the_picture_of_the_documentation_is_the_one_that_is_drawn():
    kept = boxes((Path(__file__).parents[2] / "docs/architecture.svg").read_text())
    assert [name for name, _, _ in kept][:5] == ["image", "level 0", "level 1", "level 2", "level 2"]
    assert kept[0][1] == "1 × 96 × 96"
    assert len(np.unique(kept[7][2].reshape(-1, 3), axis=0)) >= 4  # labels of three structures


def test_a_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = build_model("l2gnet", classes=4, width=4, depth=2, codes=16, references=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Architecture(model, torch.rand(1, 1, 32, 32), LABELS[:32, :32])
    assert all(part.training for part in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="image channel"):
        Architecture(model, torch.rand(1, 2, 32, 32), LABELS[:32, :32])
    assert not any(part._forward_hooks for part in model.modules())
