import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs import PATIENTS, write_run

from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import HEART_CLASSES
from l2gnet.errors import ConfigError
from l2gnet.evaluation.comparison import (
    change_frame,
    compare,
    in_words,
    metrics_of,
    patient_gains,
    patient_means,
    read_runs,
    score_frame,
    seed_spread,
)
from l2gnet.jobs.sweep_file import read_sweep
from l2gnet.models import MODELS, build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint
from l2gnet.training.settings import TrainSettings

JOBS = Path(__file__).parents[2] / "notebooks/jobs"


def test_runs_are_found_below_a_folder_by_name(tmp_path):
    write_run(tmp_path / "deep" / "two", "unet")
    write_run(tmp_path / "one", "l2gnet")
    assert [run.folder.name for run in read_runs(tmp_path)] == ["two", "one"]
    assert [run.settings["model"] for run in read_runs(tmp_path / "one", tmp_path / "deep")] == ["unet", "l2gnet"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="there must be a finished run, found none"):
        read_runs(tmp_path / "empty")


def test_an_ablation_is_compared_by_what_each_run_changed(tmp_path):
    for seed in (0, 1):
        for name, change in {"plain": {}, "many": {"codes": 64}, "grid": {"readout": "grid", "codes": 36}}.items():
            settings = {"codes": 16, "readout": "barycentric"} | change
            write_run(tmp_path / f"{name}{seed}", "l2gnet", seed=seed, gain=-0.1 * ("codes" in change), **settings)
    frame = change_frame(read_runs(tmp_path))
    assert set(frame["change"]) == {"as it is", "codes 64", "codes 36, readout grid"}
    assert frame.groupby("change")["seed"].nunique().eq(2).all()
    tests = compare(frame, "as it is", ["dice"], by="change")
    assert tests["difference"].round(6).tolist() == [0.1, 0.1]
    write_run(tmp_path / "again", "l2gnet", codes=16, readout="barycentric")
    with pytest.raises(ConfigError, match=r"each change and seed must be there once, got \('as it is', 0\)"):
        change_frame(read_runs(tmp_path))


def test_what_older_runs_do_not_name_is_what_was_so_then(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"older{seed}", "l2gnet", seed=seed, codes=16)
        write_run(tmp_path / f"codes{seed}", "l2gnet", seed=2 + seed, codes=16, receivers="codes")
        write_run(tmp_path / f"tokens{seed}", "l2gnet", seed=seed, codes=16, receivers="tokens")
    write_run(tmp_path / "heads", "l2gnet", codes=16, heads=2)
    write_run(tmp_path / "more", "l2gnet", codes=16, heads=4, seed=4)
    (older,) = read_runs(tmp_path / "older0")
    assert older.settings["receivers"] == "codes"
    told = change_frame(read_runs(tmp_path)).groupby("run")["change"].first()
    assert told[str(tmp_path / "heads")] == "as it is"
    assert told[str(tmp_path / "more")] == "heads 4"
    assert told[str(tmp_path / "older0")] == told[str(tmp_path / "codes0")] == "heads not named"
    assert told[str(tmp_path / "tokens0")] == "receivers tokens, heads not named"


def test_what_all_newer_runs_share_is_not_named_in_older_ones(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"older{seed}", "l2gnet", seed=seed)
    write_run(tmp_path / "newer", "l2gnet", novel=True)
    told = change_frame(read_runs(tmp_path)).groupby("run")["change"].first()
    assert told.tolist() == ["as it is", "novel not named", "novel not named"]


def test_runs_that_do_not_compare_are_refused(tmp_path):
    write_run(tmp_path / "a", "unet")
    write_run(tmp_path / "b", "l2gnet", epochs=4)
    with pytest.raises(ConfigError, match=r"runs must differ in model and seed only, but .*have epochs 3 and 4"):
        score_frame(read_runs(tmp_path))
    assert set(score_frame(read_runs(tmp_path), along=["epochs"])["model"]) == {"unet", "l2gnet"}
    write_run(tmp_path / "c" / "1", "unet")
    write_run(tmp_path / "c" / "2", "unet")
    with pytest.raises(ConfigError, match=r"each model and seed must be there once, got \('unet', 0\) several times"):
        score_frame(read_runs(tmp_path / "c"))


def test_a_setting_that_the_runs_do_not_have_leads_to_the_nearest(tmp_path):
    write_run(tmp_path / "a", "unet")
    with pytest.raises(ConfigError, match=r"a has no setting 'modle'; did you mean 'model'\?"):
        score_frame(read_runs(tmp_path), "modle")
    with pytest.raises(ConfigError, match=r"run: there is no such file or folder; the nearest that there is"):
        read_runs(tmp_path / "run")


def test_runs_on_other_patients_are_refused(tmp_path):
    write_run(tmp_path / "a", "unet")
    write_run(tmp_path / "b", "l2gnet")
    scores = pd.read_csv(tmp_path / "b" / "scores.csv")
    scores[scores["patient"] != "p03"].to_csv(tmp_path / "b" / "scores.csv", index=False)
    with pytest.raises(ConfigError, match="runs must score the same patients"):
        score_frame(read_runs(tmp_path))


def test_the_spread_over_seeds_is_that_of_their_means(tmp_path):
    for seed, gain in enumerate([0.0, 0.03, 0.06]):
        write_run(tmp_path / str(seed), "unet", seed=seed, gain=gain, missed=["p00"])
    frame = score_frame(read_runs(tmp_path))
    row = seed_spread(frame, "dice").set_index("structure").loc["all structures"]
    base = 0.8 + np.mean(np.arange(12)) / 1000
    assert (row["seeds"], row["count"], row["infinite"]) == (3, 144, 0)
    assert row["mean"] == pytest.approx(base + 0.03)
    assert row["std"] == pytest.approx(0.03)
    assert (row["lowest"], row["highest"]) == pytest.approx((base, base + 0.06))
    distance = seed_spread(frame, "hd95_mm").set_index("structure")
    assert distance.loc["a", "mean"] == pytest.approx(5.0 - 0.3)  # of those that were found
    assert distance["infinite"].to_dict() == {"a": 6, "b": 0, "all structures": 6}


def test_the_patient_is_the_unit(tmp_path):
    for seed, gain in enumerate([0.0, 0.02]):
        write_run(tmp_path / str(seed), "unet", seed=seed, gain=gain, missed=["p01"])
    frame = score_frame(read_runs(tmp_path))
    means = patient_means(frame, "dice")
    assert means["unet"].to_numpy() == pytest.approx(0.81 + np.arange(12) / 1000)
    assert patient_means(frame, "hd95_mm")["unet"].tolist() == pytest.approx([4.9, math.inf] + [4.9] * 10)


def test_a_better_model_is_said_to_be_better_and_a_worse_one_worse(tmp_path):
    write_run(tmp_path / "a", "l2gnet", gain=0.01)
    write_run(tmp_path / "b", "unet")
    frame = score_frame(read_runs(tmp_path))
    table = compare(frame, "l2gnet", resamples=200).set_index("metric")
    assert table["verdict"].tolist() == ["l2gnet better"] * 3
    assert table["effect"].tolist() == [1.0] * 3
    assert table["difference"].tolist() == pytest.approx([0.01, -0.1, -0.01])
    assert table.loc["Dice", ["low", "high"]].tolist() == pytest.approx([0.01, 0.01])
    assert table["p"].tolist() == pytest.approx([2 * 0.5**12] * 3)  # all of 12 on one side
    assert table["p_holm"].tolist() == pytest.approx([3 * 2 * 0.5**12] * 3)
    assert compare(frame, "unet", resamples=200)["verdict"].tolist() == ["unet worse"] * 3


def test_no_difference_is_called_so(tmp_path):
    write_run(tmp_path / "a", "l2gnet")
    write_run(tmp_path / "b", "unet")
    table = compare(score_frame(read_runs(tmp_path)), "l2gnet", resamples=200)
    assert table["verdict"].tolist() == ["no significant difference"] * 3
    assert table["p"].tolist() == [1.0] * 3


def test_a_difference_that_seeds_alone_could_make_is_called_so(tmp_path):
    for seed, luck in enumerate([-0.04, 0.04]):
        write_run(tmp_path / f"a{seed}", "l2gnet", seed=seed, gain=0.01 + luck)
        write_run(tmp_path / f"b{seed}", "unet", seed=seed, gain=luck)
    table = compare(score_frame(read_runs(tmp_path)), "l2gnet", ["dice"], resamples=200)
    assert table.loc[0, "p_holm"] < 0.01
    assert table.loc[0, "seed_error"] == pytest.approx(np.sqrt(2 * 0.0032 / 2))  # 0.0032: variance of -0.04 and 0.04
    assert table.loc[0, "verdict"] == "within the spread over seeds"
    told = in_words(table)
    assert told.index.tolist() == [("Dice", "unet")]
    assert told["difference"].tolist() == ["+0.0100 (+0.0100 to +0.0100)"]
    assert told["seed error"].tolist() == ["0.0566"]
    assert not any("_" in name for name in told)


def test_too_few_patients_cannot_tell(tmp_path, monkeypatch):
    monkeypatch.setattr("runs.PATIENTS", PATIENTS[:5])
    write_run(tmp_path / "a", "l2gnet", gain=0.1)
    write_run(tmp_path / "b", "unet")
    table = compare(score_frame(read_runs(tmp_path)), "l2gnet", metrics=["dice"], resamples=200)
    assert table.loc[0, "effect"] == 1.0
    assert table.loc[0, "verdict"] == "too few patients to tell"


def test_a_missed_structure_counts_as_the_worst_distance(tmp_path):
    write_run(tmp_path / "a", "l2gnet", missed=PATIENTS[:9])
    write_run(tmp_path / "b", "unet", missed=PATIENTS[9:10])
    table = compare(score_frame(read_runs(tmp_path)), "l2gnet", metrics=["hd95_mm"], resamples=200)
    assert table.loc[0, "difference"] == math.inf
    assert table.loc[0, "effect"] == pytest.approx(-0.8)  # 10 tied differences: 9 worse, 1 better
    assert table.loc[0, "p"] < 0.05


def test_where_each_misses_half_of_the_patients_nobody_is_ahead(tmp_path):
    write_run(tmp_path / "a", "l2gnet", missed=PATIENTS[:6])
    write_run(tmp_path / "b", "unet", missed=PATIENTS[6:])
    (row,) = compare(score_frame(read_runs(tmp_path)), "l2gnet", ["hd95_mm"]).itertuples()
    assert (row.difference, row.low, row.high, row.effect) == (0, -math.inf, math.inf, 0)
    assert row.verdict == "no significant difference"


def test_who_rightly_finds_nothing_has_the_best_score_where_another_gives_a_false_alarm(tmp_path):
    """Twelve patients, six without structure a: l2gnet finds it in all of them, unet in none."""
    healthy = PATIENTS[:6]
    for name, gain, found in (("a", 0.01, (0.0, math.inf)), ("b", 0.0, (math.nan, math.nan))):
        write_run(tmp_path / name, "l2gnet" if name == "a" else "unet", gain=gain)
        scores = pd.read_csv(tmp_path / name / "scores.csv")
        without = scores["patient"].isin(healthy) & (scores["structure"] == "a")
        scores.loc[without, ["dice", "hd95_mm", "false_negative_rate"]] = (*found, math.nan)
        scores[scores["structure"] == "a"].to_csv(tmp_path / name / "scores.csv", index=False)
    runs = read_runs(tmp_path)
    table = compare(score_frame(runs), "l2gnet", resamples=200).set_index("metric")
    assert table["patients"].tolist() == [12, 12, 6]  # what is missed is asked where something is there alone
    assert table.loc["Dice", "difference"] == pytest.approx((6 * -1 + 6 * 0.01) / 12)
    assert (table.loc["Dice", "effect"] < 0, table.loc["HD95 (mm)", "difference"]) == (True, math.inf)
    assert sorted(patient_gains(runs[:1], runs[1:], "dice")) == pytest.approx([-1.0] * 6 + [0.01] * 6)
    both = patient_means(score_frame(runs), "dice")
    assert both.loc[healthy[0]].tolist() == [0, 1]


def test_a_third_model_changes_nothing_between_two(tmp_path):
    for name, gain in (("l2gnet", 0.02), ("unet", 0.0), ("vq_unet", 0.01)):
        write_run(tmp_path / name, name, gain=gain)
    alone = compare(score_frame(read_runs(tmp_path / "l2gnet", tmp_path / "unet")), "l2gnet", ["dice"], resamples=200)
    table = compare(score_frame(read_runs(tmp_path)), "l2gnet", ["dice"], resamples=200)
    columns = ["difference", "low", "high", "effect", "p"]
    against = table.set_index("against").loc["unet", columns]
    assert against.tolist() == alone.loc[0, columns].tolist()


def test_distances_in_voxels_are_compared_where_there_are_none_in_mm(tmp_path):
    for name, gain in (("l2gnet", 0.1), ("unet", 0.0)):
        write_run(tmp_path / name, name, gain=gain)
        scores = pd.read_csv(tmp_path / name / "scores.csv")
        scores = scores.assign(hd95_voxels=scores["hd95_mm"], hd95_mm=math.nan)
        scores.to_csv(tmp_path / name / "scores.csv", index=False)
    frame = score_frame(read_runs(tmp_path))
    assert metrics_of(frame) == ["dice", "hd95_voxels", "false_negative_rate"]
    table = compare(frame, "l2gnet", resamples=200)
    assert table["metric"].tolist() == ["Dice", "HD95 (voxels)", "false-negative rate"]
    with pytest.raises(ConfigError, match=r"metrics must be among .* dice, hd95_voxels, false.*; got 'hd95_mm'"):
        compare(frame, "l2gnet", ["dice", "hd95_mm"])


def test_scores_without_settings_are_none_of_a_run(tmp_path):
    write_run(tmp_path / "run", "unet")
    write_run(tmp_path / "scored", "unet")
    (tmp_path / "scored/config.json").unlink()
    assert [run.folder.name for run in read_runs(tmp_path)] == ["run"]
    with pytest.raises(ConfigError, match="there must be a finished run, found none"):
        read_runs(tmp_path / "scored")


def test_on_how_many_devices_a_run_was_trained_is_no_difference(tmp_path):
    write_run(tmp_path / "a", "unet", devices=1, accelerator="auto")
    write_run(tmp_path / "b", "l2gnet", devices=2, accelerator="gpu")
    assert set(score_frame(read_runs(tmp_path))["model"]) == {"unet", "l2gnet"}


def test_another_setting_can_be_compared(tmp_path):
    write_run(tmp_path / "a", "l2gnet", readout="grid")
    write_run(tmp_path / "b", "l2gnet", readout="barycentric", gain=0.01)
    frame = score_frame(read_runs(tmp_path), by="readout")
    assert compare(frame, "grid", ["dice"], by="readout", resamples=200).loc[0, "verdict"] == "grid worse"
    with pytest.raises(ConfigError, match="reference must be one of at least two values of readout"):
        compare(frame, "none", by="readout")
    with pytest.raises(ConfigError, match=r"must have the columns readout, run, .*, got none named run; read run"):
        compare(frame.drop(columns="run"), "grid", by="readout")


@pytest.mark.parametrize(("name", "values"), [("codes", (64, 256)), ("epsilon", (0.1, 0.02)), ("flips", (True, False))])
def test_a_reference_that_is_no_text_may_be_written_as_one(name, values, tmp_path):
    for value in values:
        write_run(tmp_path / str(value), "l2gnet", gain=0.01 * (value == values[0]), **{name: value})
    frame = score_frame(read_runs(tmp_path), by=name)
    for reference in (values[0], str(values[0])):
        table = compare(frame, reference, ["dice"], by=name, resamples=200)
        assert table.loc[0, ["against", "verdict"]].tolist() == [values[1], f"{values[0]} better"]


@pytest.mark.parametrize("name", ["phantom-models", "phantom-choices", "phantom-domains"])
def test_a_grid_that_comes_along_is_the_one_of_its_job_file(name):
    wanted = [run.job.values for run in read_sweep(JOBS / f"{name}.yaml", parameters={}).runs]
    for run in read_runs(name):
        (found,) = [values for values in wanted if run.settings.items() <= values.items()]
        wanted.remove(found)
        assert len(run.scores) == 12 * 3
        phase = run.settings["train_on"].removeprefix("phase=")
        learnt = run.scores[run.scores["phase"] == phase] if phase else run.scores
        assert learnt["dice"].mean() > 0.9  # it had time to learn
    assert not wanted


@pytest.mark.parametrize("name", MODELS)
def test_a_run_without_weights_stands_for_a_model_as_large(name):
    run = next(run for run in read_runs("phantom-models") if run.settings["model"] == name)
    trained = TrainSettings.from_mapping(run.settings)
    model = build_model(name, **trained.model_settings(4))
    assert [x.shape for x in run.model().parameters()] == [x.shape for x in model.parameters()]


def test_a_run_with_weights_has_its_model(tmp_path):
    run = next(run for run in read_runs("phantom-models") if run.settings["model"] == "vq_unet")
    settings = {name: run.settings[name] for name in ("width", "depth", "codes", "code_dim")} | {"classes": 4}
    model = build_model("vq_unet", **settings)
    card = ModelCard("vq_unet", settings, HEART_CLASSES, Grid(3.0, 64))
    save_checkpoint(tmp_path / "model.safetensors", model, card)
    trained = replace(run, folder=tmp_path).model()
    assert all(map(torch.equal, trained.parameters(), model.parameters()))
