"""`l2gnet train`: from settings to a run folder."""

import sys
from dataclasses import asdict

from tyro.conf import OmitArgPrefixes

from l2gnet.checks import require
from l2gnet.cli.settings import Data, Model, Optimisation, Run
from l2gnet.tables import text_table
from l2gnet.training.settings import TrainSettings


def train(
    model: OmitArgPrefixes[Model],
    data: OmitArgPrefixes[Data],
    optimisation: OmitArgPrefixes[Optimisation],
    run: OmitArgPrefixes[Run],
    run_dir: str = "",
) -> None:
    """Train a model, evaluate it on the held-out patients, and leave everything in a run folder.

    Args:
        run_dir: Where results go; empty makes a new folder under runs/.
    """
    settings = TrainSettings(**vars(model), **vars(data), **vars(optimisation), **vars(run))
    named = run_dir != "" or (settings.nodes == 1 and not settings.resume)
    require(named, "run_dir", "the folder that all machines see, or that holds the run to resume", run_dir)

    from l2gnet.training.processes import is_first
    from l2gnet.training.run import folder_of
    from l2gnet.training.run import train as train_model
    from l2gnet.training.run_folder import LOCAL, RESUME_FILE, require_same_run

    if not is_first(settings):
        train_model(settings, run_dir)
        return
    from l2gnet.data.beside import aside
    from l2gnet.evaluation.scores import evaluate_cases, structure_table, write_scores
    from l2gnet.jobs.provenance import recorded

    folder = folder_of(settings, run_dir)
    require_same_run(folder, settings)  # or its record would become that of a start which was refused
    if settings.resume and not (folder / RESUME_FILE).exists():  # no error, as a queue gives the same command again
        aside(f"{folder} holds no run to go on with: it starts anew")
    try:
        with recorded(folder, "l2gnet train", asdict(settings) | {"run_dir": str(folder)}, secrets=LOCAL):
            trained = train_model(settings, folder)
            dataset = trained.dataset
            scores = evaluate_cases(
                trained.model,
                dataset.validation,
                trained.grid,
                dataset.classes,
                settings.convention,
                regions=dataset.regions,
            )
            header = {"model": settings.model, "data": dataset.name, "convention": settings.convention}
            write_scores(folder, scores, dataset.validation, header)
    except KeyboardInterrupt:
        print(f"\nstopped; the same settings with --run-dir {folder} --resume go on with it", file=sys.stderr)
        sys.exit(130)
    print(text_table(structure_table(scores)))
    print(f"run folder: {folder}")
