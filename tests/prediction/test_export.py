import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import make_heart
from l2gnet.data.regions import Regions
from l2gnet.errors import ConfigError
from l2gnet.models import MODELS, build_model
from l2gnet.models.card import ModelCard
from l2gnet.prediction.export import instructions, write_export
from l2gnet.prediction.inference import network_input

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
SIZE = 48
pytestmark = pytest.mark.usefixtures("as_a_user")  # shape checks would be traced into the graph, as its side effects


def card(name="l2gnet", **grid):
    return ModelCard(name, {"classes": 4}, CLASSES, Grid(**{"spacing_mm": 3.0, "size_px": SIZE, **grid}), {"data": "x"})


def hearts(slices):
    heart = make_heart(1, shape=(slices, SIZE, SIZE), spacing_mm=(8.0, 3.0, 3.0)).image[:, None].astype(np.float32)
    return network_input((255 * (heart - heart.min()) / np.ptp(heart)).round().astype(np.uint8))


def scattered(name, **own):
    """Random weights, made to find every class somewhere."""
    torch.manual_seed(0)
    own |= {"epsilon": 0.01, "codes": 32, "code_dim": 8, "references": 8} if name == "l2gnet" else {}
    model = build_model(name, classes=4, width=4, depth=3, **own).train()
    with torch.no_grad():
        for _ in range(5):
            model(hearts(6))
        model.eval().head.bias -= model(hearts(6)).mean((0, 2, 3))
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("name", "own"), [*((name, {}) for name in MODELS), ("l2gnet", {"positions": "absolute"})])
def test_both_files_give_the_labels_of_the_model(tmp_path, name, own):
    model, images = scattered(name, **own), hearts(5)
    with torch.inference_mode():
        expected = model(images)
    assert expected.argmax(1).unique().tolist() == [0, 1, 2, 3]
    outputs = ["logits", "marginal_error"] if name == "l2gnet" else ["logits"]

    write_export(tmp_path / "model.pt2", model, card(name))
    told = {"l2gnet": ""}
    network = torch.export.load(tmp_path / "model.pt2", extra_files=told).module()
    assert json.loads(told["l2gnet"]) == json.loads(json.dumps(instructions(card(name))))

    write_export(tmp_path / "model.onnx", model, card(name))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["l2gnet"] == told["l2gnet"]
    assert [output.name for output in session.get_outputs()] == outputs

    for batch in (1, 2, 5):  # neither is bound to the batch it was written with
        given = network(images[:batch])
        run = dict(zip(outputs, session.run(outputs, {"images": images[:batch].numpy()}), strict=True))
        assert list(given) == outputs
        for logits in (given["logits"], torch.from_numpy(run["logits"])):
            assert torch.equal(logits.argmax(1), expected[:batch].argmax(1))
            assert torch.allclose(logits, expected[:batch], atol=2e-3)
        if name == "l2gnet":
            assert given["marginal_error"].shape == run["marginal_error"].shape == (batch,)
            assert max(given["marginal_error"].max(), run["marginal_error"].max()) <= 1e-4
    assert {file.name for file in tmp_path.iterdir()} == {"model.pt2", "model.onnx"}


def test_a_file_says_how_to_use_it():
    told = instructions(card(window=(-125.0, 275.0)))
    text = json.dumps(told)
    for words in ("Not for clinical use", "(batch, 1, 48, 48)", "from [-125.0, 275.0] to 0..1", "pixels of 3 mm"):
        assert words in text
    assert told["model"]["classes"] == CLASSES
    text = json.dumps(instructions(card(spacing_mm=0.0)))
    assert "resample each slice to 48 x 48 pixels" in text
    assert "0.5th to 99.5th percentile" in text
    assert "the largest is the class of a pixel" in text
    of_regions = instructions(replace(card(), regions=Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))))
    assert "whose logit is above 0" in of_regions["output"]
    assert of_regions["model"]["regions"]["painted"] == (1, 2, 3)


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path):
    model = build_model("l2gnet", classes=4, width=4, depth=2, codes=8, code_dim=8, references=4, epsilon=0.001)
    with pytest.raises(ConfigError, match=r"model\.pt: the file to export to must end in .onnx or"):
        write_export(tmp_path / "model.pt", model, card())
    with pytest.raises(ConfigError, match=r"epsilon of at least 0.005, got 0.001; train one with more entropy"):
        write_export(tmp_path / "model.onnx", model, card())
    assert list(tmp_path.iterdir()) == []
