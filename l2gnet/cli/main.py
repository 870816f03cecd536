"""The `l2gnet` command: the same verbs as the notebooks."""

import errno
import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Literal

import tyro

from l2gnet.cli.folders import data_app, privacy_app
from l2gnet.data.settings import DataSettings
from l2gnet.errors import CheckpointError, ConfigError, VolumeError, unforeseen
from l2gnet.models.settings import Precision
from l2gnet.tables import text_table
from l2gnet.training.settings import TrainSettings

_Parameters = Annotated[tyro.conf.UseAppendAction[tuple[tuple[str, str], ...]], tyro.conf.arg(aliases=["-p"])]
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}

# What needs torch or Jupyter is imported by the verb that uses it, so that --help answers at once.

app = tyro.extras.SubcommandApp()
app.command(data_app, name="data")
app.command(privacy_app, name="privacy")


def main() -> None:
    """Run the command line: status 2 and one clear line for a user's mistake, 1 for a job that failed.

    A job or sweep that SIGTERM ended has status 143, as shells and queues expect.
    """
    try:
        app.cli(prog="l2gnet", description="Discrete codes related by optimal transport, for medical segmentation.")
    except (ConfigError, VolumeError, CheckpointError) as error:
        print(f"l2gnet: error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"l2gnet: error: {where}results must be written, got: {error.strerror}; "
            "make room, or choose another folder",
            file=sys.stderr,
        )
        sys.exit(2)


@app.command
def train(settings: Annotated[TrainSettings, tyro.conf.arg(name="")], run_dir: str = "") -> None:
    """Train a model, evaluate it on the held-out patients, and leave everything in a run folder.

    Args:
        settings: What decides the run.
        run_dir: Where results go; empty makes a new folder under runs/.
    """
    from l2gnet.evaluation.scores import evaluate_cases, structure_table, write_scores
    from l2gnet.training.processes import is_first
    from l2gnet.training.run import train as train_model

    run = train_model(settings, run_dir)
    if not is_first(settings):
        return
    scores = evaluate_cases(run.model, run.dataset.validation, run.grid, run.dataset.classes, settings.convention)
    header = {"model": settings.model, "data": run.dataset.name, "convention": settings.convention}
    write_scores(run.run_dir, scores, run.dataset.validation, header)
    print(text_table(structure_table(scores)))
    print(f"run folder: {run.run_dir}")


@app.command
def run(
    notebook: Annotated[Path, tyro.conf.Positional],
    profile: str | None = None,
    parameter: _Parameters = (),
    runs_dir: Path = Path("runs"),
    again: bool = False,
    execution_timeout: int | None = None,
) -> None:
    """Run a notebook headless, as a reproducible job.

    Args:
        notebook: The notebook to run.
        profile: Name of a file in profiles/ beside the notebook, or path of a YAML file, with settings.
        parameter: A parameter's name and value, on top of the profile; may be given many times.
        runs_dir: Folder that gets the run folder.
        again: Run even if the same job has finished before, into a folder of its own.
        execution_timeout: Seconds that a cell may take before the job fails; no limit if not given.
    """
    from l2gnet.jobs.run import run_notebook

    result = run_notebook(
        notebook,
        profile=profile,
        parameters=dict(parameter),
        runs_dir=runs_dir,
        again=again,
        cell_timeout_s=execution_timeout,
    )
    print("\nthis job has finished before; --again runs it anew" if result.done_before else "")
    print(f"run folder: {result.run_dir}")
    for file in sorted(result.run_dir.glob("[!.]*")):
        print(f"  {file.name}")
    if result.error:
        print(f"l2gnet: the notebook failed with {result.error}; see {result.notebook}", file=sys.stderr)
        sys.exit(143 if result.terminated else 1)


@app.command(name="app")
def serve(
    notebooks: Annotated[list[Path], tyro.conf.Positional],
    parameter: _Parameters = (),
    port: int = 8866,
) -> None:
    """Serve notebooks as web pages, without code, to browsers on this machine.

    Args:
        notebooks: The notebooks to serve.
        parameter: A parameter's name and value, for every notebook that has it; may be given many times.
        port: Where the pages are served: http://localhost:PORT.
    """
    from l2gnet.jobs.pages import serve_pages

    serve_pages(notebooks, dict(parameter), port=port)


@app.command
def report(run_dir: Annotated[Path, tyro.conf.Positional]) -> None:
    """Make one page of a run, report.html, without code and with all pictures inside.

    Args:
        run_dir: A run folder with an executed notebook.
    """
    from l2gnet.jobs.report import write_report

    print(write_report(run_dir))


@app.command
def seeds(
    runs: Annotated[list[Path], tyro.conf.Positional],
    by: str = "model",
) -> None:
    """Say how far the scores of a model spread over its seeds, so that nobody mistakes luck for progress.

    Args:
        runs: Run folders, or folders that hold them, of runs that differ in model and seed only.
        by: The setting to compare, if it is another than the model.
    """
    from l2gnet.evaluation.comparison import METRICS, read_runs, score_frame, seed_spread

    frame = score_frame(read_runs(*runs), by)
    for name, metric in METRICS.items():
        table = seed_spread(frame, name, by).rename(columns={"structure": metric.label})
        rows = table.round(4).to_dict("records")
        print(text_table([{str(column): str(value) for column, value in row.items()} for row in rows]), end="\n\n")


@app.command
def predict(
    model: Annotated[Path, tyro.conf.Positional],
    scans: Annotated[list[Path], tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    ensemble: tuple[Path, ...] = (),
    augment: bool = False,
    batch_size: int = 8,
    precision: Precision = "32-true",
    dicom_seg: bool = False,
) -> None:
    """Segment scans of your own: NIfTI files, DICOM series, or folders of them.

    Args:
        model: A checkpoint, such as model.safetensors of a run folder.
        scans: NIfTI files, enhanced DICOM files, or folders of those or of DICOM series; of any orientation, spacing
            and size. For a model of several channels: CASE_0000.nii.gz, CASE_0001.nii.gz and so on, or 4-D files.
        out: Folder that gets the labels of each scan, on its own grid, and what is said of them.
        ensemble: More checkpoints of the same task; all vote with their mean probability.
        augment: Test-time augmentation: slices turned, and mirrored if the model was trained so; slower.
        batch_size: Slices that pass the network at once.
        precision: As in training; bf16-mixed is faster where the hardware has it, and changes a few labels.
        dicom_seg: Also write the labels of a DICOM series as DICOM SEG, which names the patient as the series does.
    """
    from l2gnet.data.inputs import find_inputs, read_inputs
    from l2gnet.models.card import read_card
    from l2gnet.prediction.cardiac import function_by_patient
    from l2gnet.prediction.segmenter import Segmenter, write_function, write_prediction, write_seg

    found = find_inputs(scans, read_card(model).channels)
    other = next((scan.path for scan in found if dicom_seg and scan.series is None and scan.path.is_file()), None)
    if other:
        raise ConfigError(f"{other}: --dicom-seg must be given DICOM series only, got NIfTI; leave one of them out")
    volumes_ml = {}
    segmenter = Segmenter(model, *ensemble, batch_size=batch_size, augment=augment, precision=precision)
    failed = []
    for scan, frames in read_inputs(found):
        try:
            if isinstance(frames, Exception):
                raise frames
            prediction = segmenter.predict(frames, scan.name)
            write_prediction(out, prediction)
            if dicom_seg and scan.series is not None:
                write_seg(out, prediction, scan.series, segmenter.card.model)
            print(prediction)
            volumes_ml[scan.name] = prediction.volumes_ml
        except VolumeError as error:
            failed.append(scan.name)
            print(f"l2gnet: error: {error}", file=sys.stderr)
        except Exception as error:  # one scan must not take the others with it, whatever is wrong with it
            failed.append(scan.name)
            print(f"l2gnet: error: {scan.path}: {unforeseen(error)}", file=sys.stderr)
    for patient, function in function_by_patient(volumes_ml).items():
        write_function(out, patient, function)
        print(f"{patient}: {function}")
    print(f"results: {out}")
    if failed:
        names = ", ".join(failed[:10]) + ", ..." * (len(failed) > 10)
        print(f"l2gnet: {len(failed)} of {len(found)} scans were not segmented: {names}", file=sys.stderr)
        sys.exit(2)


@app.command
def sweep(
    file: Annotated[Path, tyro.conf.Positional],
    parameter: _Parameters = (),
    runs_dir: Path = Path("runs"),
) -> None:
    """Run a grid of notebook runs side by side, on this machine or a cluster; stop it and start it as you like.

    Args:
        file: A YAML file that says which notebook, which grid, and where; see notebooks/jobs/.
        parameter: A parameter's name and value for every run, on top of the file's; may be given many times.
        runs_dir: Folder that gets a folder named after the file, with a run folder each.
    """
    from l2gnet.jobs.run import TerminatedError, terminable
    from l2gnet.jobs.sweep import LiveTable, read_sweep, run_sweep

    plan = read_sweep(file, parameters=dict(parameter), runs_dir=runs_dir)
    try:
        with terminable():
            run_sweep(plan, show=LiveTable())
    except (KeyboardInterrupt, TerminatedError) as stop:
        print("\nstopped; the same command goes on with it", file=sys.stderr)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else 143)
    print(f"run folders: {runs_dir / file.stem}")
    if any(run.state == "failed" for run in plan.runs):
        sys.exit(1)


@app.command
def doctor() -> None:
    """Say what is installed, which GPU is seen, what is missing here and what to do; status 1 if it is needed."""
    from l2gnet.cli.doctor import examine

    findings = examine()
    print(text_table([finding.as_row() for finding in findings]))
    wrong = sum(finding.wrong for finding in findings)
    if wrong:
        what = "1 thing that is needed is" if wrong == 1 else f"{wrong} things that are needed are"
        print(f"l2gnet: {what} missing", file=sys.stderr)
        sys.exit(1)


@app.command
def info(model: Annotated[Path, tyro.conf.Positional], json: bool = False) -> None:
    """Show the card of a model: data, settings, scores, limits, licence.

    Args:
        model: A checkpoint, such as model.safetensors of a run folder.
        json: Show all that the checkpoint says, for programs.
    """
    from l2gnet.models.checkpoint import load_checkpoint
    from l2gnet.prediction.model_card import card_text

    network, card = load_checkpoint(model)
    parameters = sum(p.numel() for p in network.parameters())
    print(dumps(asdict(card) | {"parameters": parameters}, indent=2) if json else card_text(card, parameters))


@app.command
def export(model: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Write a model for programs that do not know this project, with all that they must know in the file.

    Args:
        model: A checkpoint, such as model.safetensors of a run folder.
        out: The file to write: .onnx for ONNX Runtime and its kin, .pt2 for torch.export.load.
    """
    from l2gnet.models.checkpoint import load_checkpoint
    from l2gnet.prediction.export import write_export

    write_export(out, *load_checkpoint(model))
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


@app.command
def evaluate(
    model: Annotated[Path, tyro.conf.Positional],
    data_dir: Annotated[Path, tyro.conf.Positional],
    data: Literal["acdc", "synapse", "decathlon"] = "acdc",
    channel: str = "",
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    all_cases: bool = False,
) -> None:
    """Score a model on a data folder with masks, on the original grid of each scan.

    Patients that the model was trained on are left out. Structures go by name: the folder may number them in another
    way, and have fewer of them than the model.

    Args:
        model: A checkpoint, such as model.safetensors of a run folder.
        data_dir: The data folder.
        data: What kind of folder it is; decathlon is any of MSD's or nnU-Net's form.
        channel: The image channels to use, by name or number; by default those that the model was trained on.
        out: Folder that gets metrics.json, per_structure.csv and scores.csv.
        all_cases: Score all patients, also those that the model was trained on.
    """
    from l2gnet.evaluation.scores import evaluate_cases, open_for_model, structure_table, unseen, write_scores
    from l2gnet.models.checkpoint import load_checkpoint

    network, card = load_checkpoint(model)
    dataset = open_for_model(DataSettings(data=data, data_dir=str(data_dir), channel=channel), card)
    cases = dataset.cases if all_cases else unseen(card, dataset.cases)
    if not cases:
        raise ConfigError(f"{data_dir}: the model was trained on every patient; name other data, or add --all-cases")
    scores = evaluate_cases(network, cases, card.grid, dataset.classes, segmented=card.classes)
    print(text_table(structure_table(scores)))
    print(f"{len(cases)} volumes; {len(dataset.cases) - len(cases)} of patients that it was trained on left out")
    if out is not None:
        write_scores(out, scores, cases, {"model": card.model, "data": dataset.name})
