"""The page of a training, and the one that compares several."""

import json
import re
import shutil
from dataclasses import replace

import folders
import pandas as pd
import pytest

from l2gnet.errors import ConfigError
from l2gnet.evaluation.scores import evaluate_cases, write_scores
from l2gnet.jobs.report import write_report
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings

TINY = {"patients": 6, "validation_patients": 2, "size_px": 48, "spacing_mm": 4.0, "width": 4, "epochs": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs that differ in their seed."""
    home = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        finish(home / f"seed{seed}", **TINY, seed=seed)
    return home


def finish(run_dir, **settings):
    """Train and score."""
    run = train(TrainSettings(**settings), run_dir)
    scores = evaluate_cases(run.model, run.dataset.validation, run.grid, run.dataset.classes)
    write_scores(run.run_dir, scores, run.dataset.validation, {"model": "l2gnet"})


def texts(page):
    """What is read on a page: its body without scripts, styles and tags."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page[page.index("<body>") :], flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub("</?code>", "", body)))


@pytest.mark.slow
def test_one_run(runs):
    page = write_report(runs / "seed1")
    assert page == runs / "seed1/report.html"
    page = page.read_text()
    said = texts(page)
    for words in ("l2gnet on phantom", "4 volumes to train on, 2 held out", "right ventricle", "all structures"):
        assert words in said
    assert re.search(r"all structures \d\.\d{4} \(\d\.\d{4} to \d\.\d{4}\) \d+", said)
    assert "l2gnet train \\ --width 4 \\ --patients 6 \\ --validation-patients 2 " in said
    assert "--seed 1" in said
    assert "epochs 2 10 passes over the training slices" in said
    assert len(re.findall(r'data-viewer="\d', page)) == 3  # two cases, best and worst, and the codebook
    assert len(re.findall(r"Doubts: none. Confidence 0.\d+, at least 0.\d+; distance of its features", said)) == 2
    assert " by " not in said.partition("Scores")[0].lower()  # nobody is named who is not told of
    assert "<svg" in page
    assert not re.search(r"<h\d>\s*</h\d>|\\\(|\$\$", page)
    assert str(runs) not in page
    headings = re.findall(r"</h[23]>\s*<h([123])>", page)
    assert all(level == "3" for level in headings)  # none that is empty


@pytest.mark.slow
def test_who_answers_for_it_is_told_where_somebody_is_named(runs):
    (runs / "seed0/run.json").write_text(json.dumps({"started": "2026-11-29T10:00:00Z"}))
    said = texts(write_report(runs / "seed0", author="Ada <Lovelace>").read_text())
    assert said.strip().startswith("l2gnet on phantom By Ada &lt;Lovelace&gt;. For research")
    assert "trained 2026-11-29 data phantom" in said
    assert " By Ada. For research" in texts(write_report(runs / "seed0", runs / "seed1", author="Ada").read_text())


@pytest.mark.slow
def test_scans_that_are_not_here_are_asked_for_and_those_of_others_refused(tmp_path):
    folders.write_decathlon(tmp_path / "data")
    folders.write_decathlon(tmp_path / "strangers", cases=(11, 12, 13, 15))
    at = {"data_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache")}
    finish(tmp_path / "run", **TINY | {"data": "decathlon"}, **at)
    page = write_report(tmp_path / "run").read_text()
    assert "The scans lie elsewhere; --data-dir adds three of them." in texts(page)
    assert not re.search(r'data-viewer="\d', page)
    page = write_report(tmp_path / "run", data_dir=at["data_dir"]).read_text()
    assert len(re.findall(r'data-viewer="\d', page)) == 3

    def refused(message, data_dir):
        with pytest.raises(ConfigError, match=message):
            write_report(tmp_path / "run", data_dir=str(data_dir))

    refused("data_dir must", "elsewhere")
    refused("strangers: the data must be that of the training", tmp_path / "strangers")
    model, card = load_checkpoint(tmp_path / "run")
    older = {name: told for name, told in card.training.items() if name != "trained_on"}
    save_checkpoint(tmp_path / "run" / "model.safetensors", model, replace(card, training=older))
    refused(
        r"strangers: a report shows cases that were held out and scored, got none of scores\.csv",
        tmp_path / "strangers",
    )


@pytest.mark.slow
def test_what_cannot_be_compared_is_told(runs, tmp_path):
    """As in a sweep over folds or data sets."""
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    scores = pd.read_csv(tmp_path / "seed1" / "scores.csv")
    strangers = scores.assign(patient="of another fold", structure=scores["structure"].replace("myocardium", "liver"))
    strangers.to_csv(tmp_path / "seed1" / "scores.csv")
    said = texts(write_report(tmp_path).read_text())
    assert "seed1 not compared: no patient was held out of both 0" in said
    assert re.search(r"myocardium \d\.\d{4} \([^)]*\) - left ventricle .* liver - \d", said)


@pytest.mark.slow
def test_several_runs_are_compared(runs):
    page = write_report(runs / "seed0", runs / "seed1")
    assert page == runs.resolve() / "report.html"
    said = texts(page.read_text())
    assert "structure seed0 seed1 right ventricle" in said
    assert "seed 0 1 decides weights, order and augmentation" in said
    assert re.search(r"seed1 [+-]\d\.\d{4} \([+-]\d\.\d{4} to [+-]\d\.\d{4}\)", said)
    assert said.count("Learning curves") == 1
    assert texts(write_report(runs).read_text()) == said  # a folder of runs


@pytest.mark.slow
def test_settings_younger_than_a_run_and_weights_to_start_from_are_told(runs, tmp_path):
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)

    def change(name, **settings):
        config = json.loads((tmp_path / name / "config.json").read_text()) | settings
        config = {name: value for name, value in config.items() if value is not None}
        (tmp_path / name / "config.json").write_text(json.dumps(config))

    change("seed0", seed=None, pretrained=None)
    change("seed1", seed=1, pretrained="R50.npz")
    said = texts(write_report(tmp_path / "seed0", tmp_path / "seed1").read_text())
    assert "seed 0 1 decides weights" in said
    assert re.search(r"pretrained +R50.npz file of ImageNet weights", said)
    assert re.search(r"--pretrained PATH .* --seed 1 ", texts(write_report(tmp_path / "seed1").read_text()))


@pytest.mark.slow
def test_data_of_several_runs_are_refused(runs):
    with pytest.raises(ConfigError, match="data_dir must be left out but for one training, which shows cases, got 'x'"):
        write_report(runs, data_dir="x")


def test_folders_without_trained_runs_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="must hold trained runs with scores, found none"):
        write_report(tmp_path / "a", tmp_path / "b")
