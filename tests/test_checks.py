import pytest

from l2gnet.checks import nearest, nearest_path, require_path
from l2gnet.errors import ConfigError


def test_the_nearest_name_is_suggested_and_without_one_all_are_listed():
    assert nearest("epocs", ["model", "epochs"]) == "; did you mean 'epochs'?"
    assert nearest("x", ["model", "epochs"]) == "; there are model, epochs"
    assert nearest("x", []) == "; there are none"


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("runs/first/model.safetensor", "; did you mean 'runs/first/model.safetensors'?"),
        ("run/frist/model.safetensors", "; did you mean 'runs/first/model.safetensors'?"),
        ("runs/first/scan.nii.gz", "; the nearest that there is: runs/first"),
        ("runs/first/model.safetensors/x", "; the nearest that there is: runs/first/model.safetensors"),
        ("runs/../run", "; did you mean 'runs/../runs'?"),
        ("nowhere/at/all", "; the nearest that there is: this folder"),
        ("x" * 5000, "; the nearest that there is: this folder"),
        ("runs/\0", "; the nearest that there is: runs"),
        ("runs/first", ""),
        ("", ""),
    ],
)
def test_a_path_that_is_not_there_leads_to_the_nearest_that_is(path, remedy, tmp_path, monkeypatch):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert nearest_path(path) == remedy
    if remedy:
        with pytest.raises(ConfigError) as refusal:
            require_path("runs", path)
        assert str(refusal.value) == f"{path}: there is no such file or folder{remedy}"
    else:
        require_path("runs", path)


def test_an_absolute_path_is_followed_from_the_root(tmp_path):
    (tmp_path / "scans").mkdir()
    assert nearest_path(tmp_path / "scan") == f"; did you mean '{tmp_path / 'scans'}'?"
