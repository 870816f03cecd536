import nibabel as nib
import numpy as np
from commands import command, refused, save_model

from l2gnet import build_model
from l2gnet.data.grid import Grid
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint


def save(path, *shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    nib.Nifti1Image(image, np.diag([1, 1, 8, 1])).to_filename(path)
    return path


def test_codes_of_every_scan_that_can_be_read(tmp_path):
    model = save_model(tmp_path / "model.safetensors")
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/good.nii.gz", 40, 40, 3)
    (tmp_path / "in/bad.nii.gz").write_bytes(b"no scan")
    result = command("codes", model, tmp_path / "in", "-o", tmp_path / "in")
    refused(result, r"bad\.nii\.gz: the file must")
    assert "1 of 2 scans were not given codes: bad" in result.stderr
    assert " of 8 codes in 3 slices" in result.stdout
    names = {file.name for file in (tmp_path / "in").iterdir()} - {"good.nii.gz", "bad.nii.gz"}
    ends = ("codes.nii.gz", "codes.npz", "histogram.csv", "plan.csv", "sent_to.nii.gz", "received_from.nii.gz")
    assert names == {f"good_{end}" for end in ends}
    (tmp_path / "in/bad.nii.gz").unlink()
    again = command("codes", model, tmp_path / "in", "-o", tmp_path / "in")  # our own results are no scans
    assert again.returncode == 0, again.stderr
    ours = "good_codes.nii.gz, good_received_from.nii.gz, good_sent_to.nii.gz"
    assert f"passed over: {ours} (label maps, by their names)" in again.stderr


def test_a_model_without_codes_says_so_in_a_sentence(tmp_path):
    scan = save(tmp_path / "scan.nii", 40, 40, 3)
    for name, options in (("unet", {}), ("l2gnet", {"codes": 0, "code_dim": 8, "references": 4})):
        settings = {"classes": 4, "width": 4, "depth": 2, **options}
        card = ModelCard(name, settings, ("background", "a", "b", "c"), Grid(1.5, 32))
        save_checkpoint(tmp_path / f"{name}.safetensors", build_model(name, **settings), card)
        result = command("codes", tmp_path / f"{name}.safetensors", scan, "-o", tmp_path / "out")
        refused(result, f"a model must have a codebook for its pixels to have codes, got {name} without one")
        assert not (tmp_path / "out").exists()
