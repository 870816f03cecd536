import dataclasses
import functools
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import folders
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from commands import SMALL, command, refused, save_model
from pydicom import dcmread
from runs import write_run
from safetensors.torch import save_file

from l2gnet.cli.group import Group
from l2gnet.cli.main import VERBS, main
from l2gnet.jobs.parameters import read_parameters
from l2gnet.models import build_model
from l2gnet.prediction.segmenter import Segmenter
from l2gnet.training.settings import PARTS, TrainSettings


@pytest.fixture
def checkpoint(tmp_path):
    return save_model(tmp_path / "model.safetensors")


def test_help_explains_every_setting_with_its_default():
    text = " ".join(command("train", "--help").stdout.replace("│", " ").split())
    for field in dataclasses.fields(TrainSettings):
        flag = f"--{field.name.replace('_', '-')}"
        assert flag in text
    assert "in-plane pixel size that the model sees, in mm; 0 fits the whole slice into size_px (default: 2.0)" in text
    assert "entropy of the plan that sends, in units of the cost, which lies in 0 to 1 (l2gnet) (default: 0.02)" in text


def test_the_installed_command_is_the_module():
    lines = ([Path(sys.executable).with_name("l2gnet"), "--help"], [sys.executable, "-m", "l2gnet", "--help"])
    installed, module = (subprocess.run(line, capture_output=True, text=True).stdout for line in lines)
    assert installed == module == command("--help").stdout


def test_a_reader_that_has_seen_enough_makes_no_traceback():
    line = f"{sys.executable} -m l2gnet info phantom-heart | true"
    found = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("", "")
    assert found.returncode in (0, 141)  # it may have said all before anybody could leave


def test_a_command_that_is_interrupted_says_so_by_its_status_alone(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Group, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


def test_help_says_what_each_group_of_verbs_is_for():
    text = command("--help").stdout
    prose = " ".join(text.replace("│", " ").split())
    for name, group in VERBS.verbs.items():
        if isinstance(group, Group):
            assert f"{name}  " in text
            assert group.purpose in prose
            assert command(name, "--help").stdout.splitlines()[2] == group.purpose


def test_help_groups_the_settings_by_the_rooms_that_own_them():
    parts = re.split(r"╭─ (\w+) options ─+╮", command("train", "--help").stdout)[1:]
    flags = {
        title: set(re.findall(r"^│ (--[a-z-]+)", part, re.MULTILINE))
        for title, part in zip(parts[::2], parts[1::2], strict=True)
    }
    owners = dict(zip(("model", "data", "optimisation", "run"), PARTS, strict=True))
    assert flags == {
        title: {f"--{name.replace('_', '-')}" for name in owner.__dataclass_fields__} for title, owner in owners.items()
    }


def test_the_flags_are_explained_in_the_words_of_the_notebook():
    text = " ".join(command("train", "--help").stdout.replace("│", " ").split())
    for parameter in read_parameters(Path(__file__).parents[2] / "notebooks" / "01_train.ipynb").values():
        assert parameter.help.removesuffix(" (secret)") in text or parameter.name == "run_dir"


def test_info_says_what_a_checkpoint_holds(checkpoint):
    told = json.loads(command("info", checkpoint, "--json").stdout)
    assert told["model"] == "l2gnet"
    assert told["classes"] == ["background", "a", "b", "c"]
    assert told["grid"]["spacing_mm"] == 1.5
    assert told["parameters"] == sum(p.numel() for p in build_model("l2gnet", **SMALL).parameters())


def test_info_shows_the_card(checkpoint):
    text = command("info", checkpoint).stdout
    assert text.startswith("# l2gnet, ")
    assert "Not for clinical use" in text
    assert "None: it was not evaluated." in text


def test_info_refuses_what_is_no_checkpoint(checkpoint, tmp_path):
    refused(command("info", tmp_path / "none.safetensors"), "must be a safetensors file")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    refused(command("info", checkpoint), "model.safetensors: a checkpoint must be a safetensors file")
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    refused(command("info", tmp_path / "other.safetensors"), "has the format l2gnet-2, got None")


def save(path, array):
    nib.Nifti1Image(array, np.diag([1, 1, 8, 1])).to_filename(path)
    return path


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def test_predict_goes_on_after_scans_that_cannot_be_read(checkpoint, tmp_path):
    save(tmp_path / "good.nii.gz", noise(40, 40, 3))
    save(tmp_path / "five.nii", noise(8, 8, 3, 2, 2))
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
    (tmp_path / "cut.nii").write_bytes(save(tmp_path / "good.nii.gz", noise(40, 40, 3)).read_bytes()[:500])
    result = command("predict", checkpoint, tmp_path, "-o", tmp_path / "out")
    refused(result, r"bad\.nii\.gz: the file must")
    for said in (r"cut\.nii: the file must", r"five\.nii: the image must have 3 or 4 dimensions"):
        assert re.search(said, result.stderr), result.stderr
    assert result.stdout.startswith("good: a ")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"good_labels.nii.gz", "good_labels.json"}
    again = command("predict", checkpoint, tmp_path / "good.nii.gz", tmp_path / "out", "-o", tmp_path / "out")
    refused(again, "out: a folder must hold scans")  # our own labels are none


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("predict", "MODEL", ".", "-o", "out", "--batch-size", "0"), "batch_size must be at least 1, got 0"),
        (("predict", "MODEL", ".", "-o", "out", "--batch-size", str(2**40)), "batch_size must be at most 2147483647"),
        (("run", "01_train", "--execution-timeout", "-1"), "execution_timeout must be from 1 to 2147483647 seconds"),
        (("train", "--run-dir", "model.safetensors"), "model.safetensors: it must be a folder, got: File exists; name"),
        (("app", "--port", "70000"), "port must be from 1 to 65535, or 0 for any that is free, got 70000"),
        (("lab", "--port", "0"), "port must be from 1 to 65535, got 0"),
        (("train", "--epsilon", "nan"), "epsilon must be from 0.0001 to 1000"),
        (("train", "--learning-rate", "inf"), "learning_rate must be above 0 and finite, got inf"),
        (("train", "--readout", "grid"), "readout must be barycentric for relation 'send-receive', got 'grid'"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_done(checkpoint, words, message, tmp_path):
    result = command(*(checkpoint if word == "MODEL" else word for word in words), cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"l2gnet: error: {message}")
    assert {file.name for file in tmp_path.iterdir()} == {"model.safetensors"}


def test_predict_ends_no_batch_for_one_scan(checkpoint, tmp_path):
    """Colour and a series with a gap are refused by name, clutter is passed over, and the scans between are done."""
    affine, noisy = np.diag([-1.5, -1.5, 8.0, 1.0]), np.random.default_rng(0).integers(0, 255, (40, 40, 4)).astype("u1")
    grey = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    rgb = np.repeat(noisy[:, :, :1], 3, axis=2).tobytes()
    folders.write_dicom(tmp_path / "in" / "a_colour", [noisy], affine, number=1, **grey, **colour, PixelData=rgb)
    folders.write_dicom(tmp_path / "in" / "b_gap", [noisy.astype(np.int16)], affine, number=2, order=[0, 1, 3])
    folders.write_dicom(tmp_path / "in" / "c_whole", [noisy.astype(np.int16)], affine, number=3)
    save(tmp_path / "in" / "d_one_slice.nii.gz", noise(40, 40, 1)[:, ::-1])
    (tmp_path / "in" / "._d_one_slice.nii.gz").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    result = command("predict", checkpoint, tmp_path / "in", tmp_path / "nowhere", "-o", tmp_path / "out")
    refused(result, r"a_colour/IM0001: a scan must have one grey value a pixel; found 3 samples a pixel, RGB")
    for said in (
        "b_gap: the slices of series 2 must lie at equal distances; found gaps of 8 to 16 mm",
        "nowhere: a scan must be a file or a folder; found none; check the path",
        "3 of 5 scans were not segmented: ",
    ):
        assert said in result.stderr
    assert "passed over: ._d_one_slice.nii.gz (a resource fork of macOS)" in result.stderr
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        f"{name}_labels.{suffix}" for name in ("c_whole", "d_one_slice") for suffix in ("nii.gz", "json")
    }


def test_predict_ends_no_batch_for_an_error_that_no_rule_knows(checkpoint, tmp_path, monkeypatch, capsys):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.nii", noise(40, 40, 3))
    predict_one = Segmenter.predict

    def fail_on_b(segmenter, frames, name):
        if name == "b":
            raise RuntimeError("CUDA out of memory\nat some place")
        return predict_one(segmenter, frames, name)

    monkeypatch.setattr(Segmenter, "predict", fail_on_b)
    monkeypatch.setattr(sys, "argv", ["l2gnet", "predict", str(checkpoint), str(tmp_path), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert re.search(
        r"error: .*b\.nii: the scan could not be used; found RuntimeError: CUDA out of memory; free mem", said.err
    )
    assert "1 of 3 scans were not segmented: b" in said.err
    assert [line.partition(":")[0] for line in said.out.splitlines()] == ["a", "c", "results"]


def test_predict_says_which_result_had_no_space_and_leaves_nothing_half_written(checkpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # its own file could not grow either
    save(tmp_path / "a_large.nii", noise(16, 16, 400))
    save(tmp_path / "b_small.nii", noise(40, 40, 3))
    limit = 3000  # bytes of any one file: as a full disk, but for this process alone
    line = [sys.executable, "-m", "l2gnet", "predict", checkpoint, tmp_path, "-o", tmp_path / "out"]
    full = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    result = subprocess.run([*map(str, line)], preexec_fn=full, capture_output=True, text=True, timeout=120)
    refused(result, r"a_large_labels\.json: the result must be writable; found .*large.*; free space")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"b_small_labels.nii.gz", "b_small_labels.json"}


def test_predict_writes_dicom_seg_for_series_only(checkpoint, tmp_path):
    image = np.random.default_rng(0).integers(0, 500, (40, 40, 3))
    folders.write_dicom(tmp_path / "in" / "chest", [image], np.diag([-1, -1, 8, 1]))
    words = ["predict", checkpoint, tmp_path / "in", "-o", tmp_path / "out", "--dicom-seg"]
    result = command(*words)
    assert result.returncode == 0, result.stderr
    assert "arning" not in result.stderr
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"chest_labels.nii.gz", "chest_labels.json", "chest_labels.dcm"}
    assert command(*words, "--all-planes").returncode == 0
    assert dcmread(tmp_path / "out" / "chest_labels.dcm").NumberOfFrames == 9  # of three structures on three planes
    refused(command(*words[:-1], "--all-planes"), "--all-planes is about DICOM SEG, got it alone; add --dicom-seg")
    nib.Nifti1Image(image.astype(np.int16), np.eye(4)).to_filename(tmp_path / "in" / "other.nii")
    refused(command(*words), r"other\.nii: --dicom-seg must be given DICOM series only, got NIfTI")


def test_predict_names_its_labels_as_nnunet_does(checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    image = save(tmp_path / "in" / "case_7_0000.nii.gz", noise(40, 36, 3))
    words = ["predict", checkpoint, tmp_path / "in", "--nnunet-names", "--probabilities", "-o"]
    assert command(*words, tmp_path / "out").returncode == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"case_7.nii.gz", "case_7.json", "probabilities"}
    assert (tmp_path / "out" / "probabilities" / "case_7_probabilities.nii.gz").exists()  # where no label map is sought
    # nnU-Net's evaluation reads both label maps with SimpleITK, and compares them voxel by voxel where they lie.
    labels, scan = (SimpleITK.ReadImage(str(path)) for path in (tmp_path / "out" / "case_7.nii.gz", image))
    assert labels.GetSize() == scan.GetSize()
    assert (labels.GetOrigin(), labels.GetDirection()) == (scan.GetOrigin(), scan.GetDirection())
    assert labels.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert command(*words, tmp_path / "out").returncode == 0  # over our own


def test_predict_writes_over_no_labels_of_a_person(checkpoint, tmp_path):
    scan = save(tmp_path / "case.nii.gz", noise(40, 40, 3))
    drawn = save(tmp_path / "case_labels.nii.gz", np.zeros((40, 40, 3), np.uint8))
    before = drawn.read_bytes()
    refused(
        command("predict", checkpoint, scan, "-o", tmp_path),
        r"case_labels\.nii\.gz: predict may write labels over none",
    )
    assert drawn.read_bytes() == before
    for _ in range(2):  # over our own
        assert command("predict", checkpoint, scan, "-o", tmp_path / "out").returncode == 0


def test_predict_writes_nnunets_names_over_no_file_of_others(checkpoint, tmp_path):
    (tmp_path / "labelsTr").mkdir()
    truth = save(tmp_path / "labelsTr" / "case.nii.gz", np.zeros((40, 40, 3), np.uint8)).read_bytes()
    scan = save(tmp_path / "case.nii.gz", noise(40, 40, 3))
    (tmp_path / "case.json").write_text("{}")  # as dcm2niix leaves it beside a scan
    for out in ("labelsTr", "."):
        words = ["predict", checkpoint, scan, "--nnunet-names", "-o", tmp_path / out]
        refused(command(*words), r"case\.nii\.gz: predict may write labels over none but our own")
    assert (tmp_path / "labelsTr" / "case.nii.gz").read_bytes() == truth
    save(tmp_path / "case_0000.nii.gz", noise(40, 40, 3))
    words = ["predict", checkpoint, scan, tmp_path / "case_0000.nii.gz", "--nnunet-names", "-o", tmp_path / "out"]
    refused(command(*words), "each scan needs a name of its own, got 2 scans case; rename or part them")


def test_data_check_says_in_words_what_is_wrong(tmp_path):
    patient = tmp_path / "patient001"
    patient.mkdir()
    (patient / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: DCM\n")
    result = command("data", "check", tmp_path)
    assert result.returncode == 1
    assert "patient001_frame01.nii.gz: the ED frame that Info.cfg names must exist" in result.stdout
    assert "2 problems" in result.stdout


def test_privacy_check_lists_what_may_identify(tmp_path):
    (tmp_path / "names.txt").write_text("Jane Doe\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").write_text("all well")
    clean = command("privacy", "check", tmp_path / "run", "--names", tmp_path / "names.txt")
    assert (clean.returncode, clean.stdout) == (0, "nothing found\n")
    (tmp_path / "run" / "note.txt").write_text("of DOE^JANE")
    found = command("privacy", "check", tmp_path / "run", "--names", tmp_path / "names.txt")
    assert found.returncode == 1
    assert found.stdout.endswith("note.txt, line 1: a name 'DOE^JANE'\n")


def test_seeds_prints_a_table_for_each_metric(tmp_path):
    for seed, gain in enumerate([0.0, 0.02]):
        write_run(tmp_path / str(seed), "unet", seed=seed, gain=gain)
    write_run(tmp_path / "one", "l2gnet")
    words = command("seeds", tmp_path).stdout.split("\n\n")
    assert [part.split()[0] for part in words[:3]] == ["Dice", "HD95", "false-negative"]
    assert re.search(r"all structures +unet +2 +0\.8155 +0\.0141 +0\.8055 +0\.8255 +0 +96", words[0])
    assert re.search(r"all structures +l2gnet +1 +0\.8055 +nan", words[0])
    assert "vq_unet" in command("seeds", "phantom-models").stdout  # which comes along


@pytest.mark.slow
def test_train_leaves_a_run_folder_and_prints_the_table(tmp_path):
    words = ["--patients", 4, "--validation-patients", 2, "--size-px", 48, "--spacing-mm", 4.0, "--width", 4]
    result = command("train", *words, "--epochs", 1, "--run-dir", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "left ventricle" in result.stdout
    assert "run folder: run" in result.stdout
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "metrics.json", "config.json", "per_structure.csv", "run.json"} <= names
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["command"], record["job"]) == ("finished", "l2gnet train", "run")
    assert record["parameters"].keys() == {"run_dir", *(field.name for field in dataclasses.fields(TrainSettings))}
    assert record["parameters"]["width"] == 4
    assert record["peak_memory_mb"] > 100
