"""A command answers at once: help, mistakes and `info` come before anything that takes long to import."""

import re
from pathlib import Path

import pytest
from commands import command

from l2gnet.cli.group import Group
from l2gnet.cli.main import VERBS

SLOW = {
    "distributed",
    "kornia",
    "lightning",
    "matplotlib",
    "monai",
    "nbconvert",
    "nbformat",
    "nibabel",
    "pandas",
    "papermill",
    "plotly",
    "scipy",
    "torch",
    "voila",
}
TRAIN = Path(__file__).parents[2] / "notebooks" / "01_train.ipynb"
SWEEP = TRAIN.parent / "jobs" / "compare-acdc.yaml"


# At the end of the process; its own prints are over by then.
TELL = f"import atexit, sys; atexit.register(lambda: print('loaded:', *({SLOW} & sys.modules.keys()), file=sys.stderr))"


def first_steps(folder, *words):
    """Run a command in an empty folder; its status, and what it said, after nothing slow was loaded."""
    result = command(*words, before=TELL, cwd=folder)
    said, _, loaded = result.stderr.rpartition("loaded:")
    assert loaded.split() == []
    assert "Traceback" not in said
    assert list(folder.iterdir()) == []
    return result.returncode, result.stdout + said


def lines(group, words=()):
    """The words of a group, of its groups and of their verbs."""
    found = [words]
    for name, verb in group.verbs.items():
        found += lines(verb, (*words, name)) if isinstance(verb, Group) else [(*words, name)]
    return found


@pytest.mark.parametrize("words", lines(VERBS), ids=lambda words: " ".join(words) or "l2gnet")
def test_help(words, tmp_path):
    status, said = first_steps(tmp_path, *words, "--help")
    assert status == 0
    assert said.startswith(f"usage: {' '.join(['l2gnet', *words])} [-h]")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "l2gnet has no verb 'trian'; did you mean 'train'?"),
        (["data", "chek", "x"], "l2gnet data has no verb 'chek'; did you mean 'check'?"),
        (["train", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["train", "--model", "vnet"], "vnet"),
        (["train", "--epocs", "3"], "--epochs INT"),
        (["train", "--data", "acdc", "--data-dir", "NOWHERE"], "data_dir must be the folder of the acdc data, got"),
        (["data", "prepare", "--data", "acdc", "--data-dir", "NOWHERE"], "data_dir must be the folder of the acdc"),
        (["data", "prepare"], "data must be a real data set, since phantoms are made anew each time, got 'phantom'"),
        (["train", "--resume"], "run_dir must be the folder that all machines see, or that holds the run to resume"),
        (["train", "--nodes", "2"], "run_dir must be the folder that all machines see"),
        (["train", "--recipe", "transunet", "--flips"], "flips must be off for the recipe transunet"),
        (["data", "check", "NOWHERE"], "there is no such file or folder"),
        (["privacy", "check", "NOWHERE"], "there is no such file or folder"),
        (["privacy", "check", TRAIN, "--names", "NOWHERE"], "a list of names must be a text file"),
        (["run", "NOWHERE"], "there is no such notebook"),
        (["run", TRAIN, "--profile", "dmeo"], "there is no profile 'dmeo'; did you mean 'demo'?"),
        (["run", TRAIN, "-p", "epocs", "3"], "-p: unknown parameter 'epocs'; did you mean 'epochs'?"),
        (["run", TRAIN, "-p", "epochs", "x"], "-p: epochs must be of type int, got 'x'"),
        (["run", TRAIN, "-p", "model", "l2gnt"], "model must be one of unet"),
        (["app", TRAIN, "--model", "x"], "model must be left out where notebooks are served"),
        (["app", TRAIN, "--browser"], "browser must be left out where notebooks are served"),
        (["app", "NOWHERE"], "there is no such notebook"),
        (["app", TRAIN, "-p", "epocs", "3"], "-p: unknown parameter 'epocs'; did you mean 'epochs'?"),
        (["sweep", "NOWHERE"], "there is no such file or folder"),
        (["sweep", SWEEP, "-p", "epocs", "3"], "unknown parameter 'epocs'; did you mean 'epochs'?"),
        (["report", "NOWHERE"], "there is no such file or folder"),
        (["report", TRAIN.parent / "jobs"], "jobs must hold one executed notebook, found 0"),
        (["seeds", "NOWHERE"], "there is no such file or folder"),
        (["info", "NOWHERE"], "a checkpoint must be a safetensors file, a run folder"),
        (["export", "NOWHERE", "x.onnx"], "a checkpoint must be a safetensors file, a run folder"),
        (["predict", "NOWHERE", "NOWHERE", "-o", "out"], "a checkpoint must be a safetensors file, a run folder"),
        (["predict", "MODEL", "NOWHERE", "-o", "out"], "there is no such file or folder"),
        (["predict", "MODEL", TRAIN, "-o", "out", "--ensemble", "NOWHERE"], "a checkpoint must be a safetensors file"),
        (["codes", "MODEL", "MODEL", "-o", "out", "--batch-size", "0"], "batch_size must be from 1 to 2147483647"),
        (["codes", "MODEL", "NOWHERE", "-o", "out"], "there is no such file or folder"),
        (["evaluate", "NOWHERE", "NOWHERE"], "a checkpoint must be a safetensors file, a run folder"),
        (["evaluate", "MODEL", "NOWHERE"], "data_dir must be the folder of the acdc data, got"),
    ],
    ids=lambda value: " ".join(map(str, value)).replace(str(TRAIN.parent), "") if isinstance(value, list) else "",
)
def test_a_mistake(words, message, run_folder, tmp_path):
    meant = {"MODEL": run_folder, "NOWHERE": run_folder.parent / "frist"}
    status, said = first_steps(tmp_path, *(meant.get(word, word) for word in words))
    assert status == 2
    assert message in said
    if "NOWHERE" in words:
        assert f"; did you mean '{run_folder}'?" in said


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_info(flags, run_folder, tmp_path):
    status, said = first_steps(tmp_path, "info", run_folder, *flags)
    assert status == 0
    assert re.search('# l2gnet, [0-9,]+ parameters|"parameters": [0-9]+', said)
