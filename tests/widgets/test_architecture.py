import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from l2gnet.widgets.architecture import architecture
from PIL import Image

from l2gnet import build_model

NAME = "{http://www.w3.org/2000/svg}"
LABELS = np.tile(np.array([0, 1, 2, 3], np.uint8), (64, 16))


def boxes(svg):
    """The pictures of a diagram, by the text over and under each."""
    root = ET.fromstring(svg)
    texts = [text.text for text in root.iter(f"{NAME}text")][1:]  # after that of the arrows
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image.attrib["href"].split(",")[1]))))
        for image in root.iter(f"{NAME}image")
    ]
    return list(zip(texts[::2], texts[1::2], pictures, strict=True))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("relation", ["send-receive", "symmetric"])
def test_each_box_holds_what_the_image_has_there(depth, relation):
    torch.manual_seed(0)
    model = build_model("l2gnet", classes=4, width=4, depth=depth, codes=32, references=8, relation=relation).eval()
    image = torch.rand(1, 1, 64, 64)
    found = boxes(architecture(model, image, LABELS))
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


def test_a_model_without_plans_is_refused():
    with pytest.raises(ValueError, match="no transport plan"):
        architecture(build_model("unet", classes=4, width=4), torch.rand(1, 1, 64, 64), LABELS)
