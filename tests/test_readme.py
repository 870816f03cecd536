"""What README and how-to pages show works: Python and commands are run, on data sets in the formats they name."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args
from urllib.request import urlopen

import folders
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from l2gnet.data.folders.synapse import CLASSES
from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import HEART_CLASSES, make_heart
from l2gnet.inspection.verdict import Verdict
from l2gnet.models import MODELS, build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
HOW_TO = {path.stem: path.read_text() for path in (ROOT / "docs/how-to").glob("*.md")}
SHOWN = "\n".join([README, *HOW_TO.values()])
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", SHOWN, re.DOTALL) for line in block.splitlines() if line]
TINY = {"size_px": 48, "spacing_mm": 4.0, "width": 4, "epochs": 1, "validation_patients": 1, "precision": "32-true"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the notebooks and three phantom patients as ACDC stores them."""
    desk = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "notebooks", desk / "notebooks", ignore=shutil.ignore_patterns("runs", "cache"))
    write_acdc(desk, 3)
    return desk


def write_acdc(desk, patients):
    for number in range(1, patients + 1):
        folder = desk / f"path/to/acdc/training/patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 7\nGroup: NOR\n")
        for frame, phase in ((1, "ED"), (7, "ES")):
            heart = make_heart(number, phase=phase)
            affine = np.diag([*heart.spacing_mm[::-1], 1.0])
            stem = folder / f"{folder.name}_frame{frame:02d}"
            nib.Nifti1Image(heart.image.T.astype(np.int16), affine).to_filename(f"{stem}.nii.gz")
            nib.Nifti1Image(heart.label.T, affine).to_filename(f"{stem}_gt.nii.gz")


def run(desk, line, *more):
    words = shlex.split(line)
    assert words[0] == "l2gnet"
    command = [sys.executable, "-m", "l2gnet", *words[1:], *map(str, more)]
    result = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    return result.stdout


def command(start):
    found = [line for line in COMMANDS if line.startswith(start)]
    assert len(found) == 1, (start, found)
    return found[0]


def test_every_command_shown_is_tested():
    made = {line.removeprefix("make ") for line in COMMANDS if line.startswith("make ")}
    assert made == {"demo", "lab", "app"}
    assert re.search(r"^\.PHONY: demo test coverage lab app", (ROOT / "Makefile").read_text(), re.MULTILINE)
    tested = (
        "data check path/to/acdc",
        "data check path/to/task",
        "data show",
        "data prepare",
        "run notebooks/01_train.ipynb --profile acdc-cpu",
        "run notebooks/01_train.ipynb -p data decathlon",
        "run notebooks/01_train.ipynb --profile synapse-transunet",
        "train --help",
        "train --model",
        "info",
        "export",
        "predict",
        "codes",
        "evaluate",
        "audit",
        "sweep",
        "run notebooks/05_compare_models.ipynb",
        "seeds",
        "report",
        "view path",
        "watch",
        "app",
    )
    assert "l2gnet view" in COMMANDS
    for start in tested:
        command(f"l2gnet {start}")
    assert len(COMMANDS) == len(made) + len(tested) + 1


def test_the_python_example_runs(capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    exec(code.group(1), {})
    assert capsys.readouterr().out.splitlines()[:2] == ["torch.Size([2, 4, 128, 128])", "torch.Size([2, 8, 8])"]


def test_every_file_shown_exists():
    for path in re.findall(r"`((?:l2gnet|notebooks|widgets|benchmarks)/[\w./-]*)`", SHOWN):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"^\| `([a-z-]+)` \|", HOW_TO["train"], re.MULTILINE):
        assert (ROOT / "notebooks" / "profiles" / f"{name}.yaml").exists(), name


def test_every_picture_shown_is_there_and_small():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).stat().st_size < 3e6 for picture in pictures)


def test_times_are_written_by_the_script_that_measures_them():
    script = runpy.run_path(str(ROOT / "benchmarks/readme_times.py"))
    times = script["times_in"](README)
    assert list(times) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    told = script["between"](README).strip().splitlines()[-1]
    assert script["written"](README, times, told) == README
    other = script["written"](README, {"06_optimal_transport": script["in_words"](151)}, "*There.*")
    assert script["times_in"](other) == times | {"06_optimal_transport": "2.5 min"}
    assert re.search(r"\n\n\*There\.\*\n<!-- end of times -->\n", other)
    assert [script["in_words"](seconds) for seconds in (2, 13, 117, 121)] == ["5 s", "15 s", "115 s", "2 min"]


def test_data_check(desk):
    assert "3 patients" in run(desk, command("l2gnet data check path/to/acdc"))


def test_data_prepare(desk):
    assert "6 volumes, 60 slices in cache/slices-" in run(
        desk, command("l2gnet data prepare"), "--validation-patients", 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("line", ["l2gnet view", "l2gnet view path", "l2gnet watch", "l2gnet app"])
def test_pages_are_served(tmp_path, line):
    folders.save(tmp_path / "path/to/scan.nii.gz", folders.abdomen(1)[0])
    folders.save(tmp_path / "path/to/labels.nii.gz", folders.abdomen(1)[1])
    card = ModelCard("unet", {"classes": 9, "width": 4, "depth": 2}, CLASSES, Grid(6.0, 32))
    save_checkpoint(tmp_path / "path/to/model.safetensors", build_model(card.model, **card.settings), card)
    shown = line if line == "l2gnet view" else command(line)
    words = [sys.executable, "-m", "l2gnet", *shlex.split(shown)[1:], "--no-browser", "--port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.search(r"http://127.0.0.1:\d+/\S+/", server.stdout.readline())
            assert urlopen(address[0]).status == 200
        finally:
            server.terminate()


def test_the_python_of_interventions_runs(capsys):
    exec(re.search(r"```python\n(.*?)```", HOW_TO["look"], re.DOTALL)[1], {})
    assert re.fullmatch(r"tensor\(\d+\) pixels have another label\n", capsys.readouterr().out)


@pytest.mark.slow
def test_the_python_that_audits_networks_of_others_runs(capsys):
    code = re.search(r"```python\n(.*?)```", HOW_TO["audit"], re.DOTALL)[1]
    exec(code.replace("range(20)", "range(1)"), {})
    shown = re.search(r"```text\n(.*?)```", HOW_TO["audit"], re.DOTALL)[1]
    told, said = (
        [re.sub("(, Dice|:).*", "", line) for line in text.splitlines()] for text in (capsys.readouterr().out, shown)
    )
    assert told == said


@pytest.mark.slow
def test_the_main_job_on_files_in_acdcs_format(desk):
    parameters = [word for name, value in TINY.items() for word in ("-p", name, value)]
    out = run(desk, command("l2gnet run notebooks/01_train.ipynb --profile acdc-cpu"), *parameters)
    run_dir = desk / re.search(r"run folder: (\S+)", out).group(1)
    names = {file.name for file in run_dir.iterdir()}
    table = re.search(r"\| file \| what it is \|\n(.*?)\n\n", HOW_TO["train"], re.DOTALL).group(1)
    promised = {
        name.rstrip("/") for row in table.splitlines() for name in re.findall(r"`([\w./]+)`", row.split("|")[1])
    }
    assert len(promised) == 11
    assert promised <= names
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["data"] == "acdc"
    assert {"all", "ED", "ES"} <= metrics.keys()
    assert metrics["all"]["cases"] == 2


@pytest.mark.slow
def test_ones_own_data_in_the_folder_described(desk):
    task = desk / "path/to/task"
    task.mkdir()
    description = re.search(r"```json\n(.*?)```", HOW_TO["own-data"], re.DOTALL).group(1)
    (task / "dataset.json").write_text(description)
    classes = json.loads(description)["labels"]
    for number in (1, 2, 3):
        image, label = folders.abdomen(number)
        labels = np.zeros_like(label)
        for organ in set(classes) - {"background"}:
            labels[label == CLASSES.index(organ)] = classes[organ]
        folders.save(task / "imagesTr" / f"case{number}_0000.nii.gz", image.astype(np.int16))
        folders.save(task / "labelsTr" / f"case{number}.nii.gz", labels)
    checked = run(desk, command("l2gnet data check path/to/task"))
    assert "3 patients" in checked
    assert f"classes: {', '.join(classes)}" in checked
    assert "no gallbladder" not in run(desk, command("l2gnet data show"))
    assert (desk / "seen.png").stat().st_size > 10_000
    parameters = [word for name, value in {**TINY, "size_px": 48}.items() for word in ("-p", name, value)]
    out = run(desk, command("l2gnet run notebooks/01_train.ipynb -p data decathlon"), *parameters)
    metrics = json.loads((desk / re.search(r"run folder: (\S+)", out).group(1) / "metrics.json").read_text())
    assert list(metrics["all"]["structures"]) == ["liver", "gallbladder"]


@pytest.mark.slow
def test_synapse_by_transunets_recipe(desk):
    folders.write_prepared_synapse(desk / "path/to/synapse")
    tiny = {"size_px": 48, "width": 4, "epochs": 1, "accelerator": "cpu"}
    parameters = [word for name, value in tiny.items() for word in ("-p", name, value)]
    out = run(desk, command("l2gnet run notebooks/01_train.ipynb --profile synapse-transunet"), *parameters)
    metrics = json.loads((desk / re.search(r"run folder: (\S+)", out).group(1) / "metrics.json").read_text())
    assert metrics["convention"] == "transunet"
    assert metrics["all"]["overall"]["hd95_voxels"]["count"] == 8
    assert metrics["all"]["overall"]["hd95_mm"]["count"] == 0


@pytest.mark.slow
def test_train_info_export_predict_and_evaluate(desk):
    assert "--learning-rate FLOAT" in run(desk, command("l2gnet train --help"))
    out = run(desk, command("l2gnet train --model"), "--patients", 4, "--validation-patients", 1)
    model = desk / re.search(r"run folder: (\S+)", out).group(1) / "model.safetensors"
    (desk / "path/to/model.safetensors").symlink_to(model)
    assert run(desk, command("l2gnet info")).startswith("# unet, ")
    assert run(desk, command("l2gnet export")).startswith("path/to/model.onnx: ")
    (desk / "path/to/scans").symlink_to(desk / "path/to/acdc/training/patient001")
    out = run(desk, command("l2gnet predict"))
    assert "patient001: left ventricle " in out
    assert (desk / "path/to/labels/patient001_frame07_labels.nii.gz").exists()
    out = run(desk, command("l2gnet evaluate"))
    assert "6 volumes; 0 of patients that it was trained on, by their names, left out" in out
    metrics = json.loads((desk / "path/to/scores/metrics.json").read_text())
    assert metrics["all"]["cases"] == 6
    error = metrics["calibration"]["all_voxels"]["expected_calibration_error"]
    assert f"expected calibration error and Brier score: {error:.4f} and " in out
    assert (desk / "path/to/scores/reliability.csv").exists()


def test_an_audit_of_a_model_with_a_relation(tmp_path):
    write_acdc(tmp_path, 5)
    settings = {"classes": 4, "width": 4, "depth": 2, "codes": 8, "code_dim": 8, "references": 4}
    card = ModelCard("l2gnet", settings, HEART_CLASSES, Grid(4.0, 32))
    network = build_model("l2gnet", **settings)
    with torch.no_grad():
        network.head.bias[1] = 99.0  # all is right ventricle, as one that finds nothing is not audited
    save_checkpoint(tmp_path / "path/to/model.safetensors", network, card)
    out = run(tmp_path, command("l2gnet audit"))
    assert "bottleneck.mapper: idle: without it the model does as well" in out
    (tmp_path / "path/to/scans").symlink_to(tmp_path / "path/to/acdc/training/patient001")
    assert " of 8 codes in 10 slices" in run(tmp_path, command("l2gnet codes"))
    assert (tmp_path / "path/to/codes/patient001_frame07_plan.csv").exists()
    verdicts = re.findall(r"\*(\w+)\*", HOW_TO["score"])
    assert verdicts == list(get_args(Verdict))


@pytest.mark.slow
def test_a_sweep_and_the_notebooks_that_read_it(desk):
    sweep = desk / "notebooks/jobs/compare-acdc.yaml"
    whole = yaml.safe_load(sweep.read_text())
    assert set(whole["grid"]["model"]) == set(MODELS)
    sweep.write_text(yaml.safe_dump(whole | {"grid": {"model": ["l2gnet", "unet"], "seed": [0]}}))
    parameters = [word for name, value in TINY.items() for word in ("-p", name, value)]
    assert "2 runs: 2 finished" in run(desk, command("l2gnet sweep"), *parameters)
    assert "too few patients to tell" in run(desk, command("l2gnet run notebooks/05_compare_models.ipynb"))
    assert "left ventricle" in run(desk, command("l2gnet seeds"))
    (desk / "path/to/run").symlink_to(next((desk / "runs/compare-acdc").iterdir()))
    assert run(desk, command("l2gnet report")).strip() == "path/to/run/report.html"
    read = "-p runs_dir runs/compare-acdc"
    run(desk, f"l2gnet run notebooks/08_generalisation.ipynb {read} -p data_dir path/to/acdc/training -p volumes 1")
    run(desk, f"l2gnet run notebooks/09_ablations.ipynb {read}")
