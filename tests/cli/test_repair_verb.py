import nibabel as nib
import numpy as np
from commands import command, refused
from test_missing_extras import GONE


def write(root):
    """An ACDC patient whose second mask lies on a grid half as fine."""
    affine = np.diag([-1.5, -1.5, 8.0, 1])
    folder = root / "patient001"
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\n")
    disc = np.hypot(*np.mgrid[-16:16, -16:16])[..., None] * np.ones(6) < 9
    for number in (1, 9):
        image = (200 * disc + np.random.default_rng(number).normal(60, 20, disc.shape)).astype(np.int16)
        nib.Nifti1Image(image, affine).to_filename(folder / f"patient001_frame{number:02d}.nii.gz")
        mask = (disc * 3).astype(np.uint8)[:: 2 if number == 9 else 1]
        mask_affine = affine @ np.diag([2 if number == 9 else 1, 1, 1, 1])
        nib.Nifti1Image(mask, mask_affine).to_filename(folder / f"patient001_frame{number:02d}_gt.nii.gz")


def test_a_folder_is_repaired_with_words_and_a_picture(tmp_path):
    write(tmp_path / "old")
    assert command("data", "check", tmp_path / "old").returncode == 1
    done = command("data", "repair", tmp_path / "old", "-o", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith("patient001_ES: mask resampled from 6x32x16 of 8x1.5x3 mm to 6x32x32 of 8x1.5x1.5 mm")
    assert last == f"1 repaired, 0 not; the copy is {tmp_path / 'new'}"
    pictures = list((tmp_path / "new" / "repaired").iterdir())
    assert [picture.name for picture in pictures] == ["patient001_ES.png"]
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    assert command("data", "check", tmp_path / "new").returncode == 0


def test_what_cannot_be_repaired_ends_with_status_1_and_what_cannot_begin_with_2(tmp_path):
    write(tmp_path / "old")
    (tmp_path / "old" / "patient001" / "patient001_frame01_gt.nii.gz").write_bytes(b"no mask")
    done = command("data", "repair", tmp_path / "old", "-o", tmp_path / "new")
    assert done.returncode == 1
    assert done.stdout.startswith("not repaired: ")
    assert "1 repaired, 1 not" in done.stdout
    refused(command("data", "repair", tmp_path / "old", "-o", tmp_path / "new"), "must be a new folder")
    refused(command("data", "repair", tmp_path / "nowhere", "-o", tmp_path / "x"), "no such file or folder")
    gone = command("data", "repair", tmp_path / "old", "-o", tmp_path / "x", before=GONE.format("matplotlib"))
    refused(gone, r"matplotlib is needed, and not installed; pip install 'l2gnet\[jobs\]'")
    assert not (tmp_path / "x").exists()
