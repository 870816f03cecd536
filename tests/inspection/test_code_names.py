import json

import pytest

from l2gnet.data.grid import Grid
from l2gnet.errors import ConfigError
from l2gnet.inspection.code_names import CodeNames
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    settings = {"classes": 2, "width": 4, "depth": 2}
    save_checkpoint(
        tmp_path / "mine.safetensors",
        build_model("unet", **settings),
        ModelCard("unet", settings, ("background", "a"), Grid(1.0, 16)),
    )
    return tmp_path / "mine.safetensors"


def test_names_lie_beside_the_model(checkpoint):
    names = CodeNames(checkpoint)
    assert names.all == {}
    names.set(3, "  apex ")
    names.set(12, "x" * 100)
    assert json.loads(checkpoint.with_name("mine.names.json").read_text()) == {"3": "apex", "12": "x" * 60}
    names.set(3, "")
    assert CodeNames(checkpoint).all == {"12": "x" * 60}


def test_names_of_a_shipped_model_lie_with_the_data_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    CodeNames("phantom-heart").set(0, "lung")
    assert json.loads((tmp_path / "data/l2gnet/phantom-heart.names.json").read_text()) == {"0": "lung"}
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CodeNames("phantom-heart").path == tmp_path / ".local/share/l2gnet/phantom-heart.names.json"


@pytest.mark.parametrize(
    ("text", "rule"), [("{", "must be JSON"), ("[1]", "texts by number"), ('{"1": 2}', "by number")]
)
def test_a_damaged_file_says_so(checkpoint, text, rule):
    checkpoint.with_name("mine.names.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"mine\.names\.json: .*{rule}.*; delete or mend it"):
        _ = CodeNames(checkpoint).all
