"""`l2gnet train`: from settings to a run folder."""

from tyro.conf import OmitArgPrefixes

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

    from l2gnet.evaluation.scores import evaluate_cases, structure_table, write_scores
    from l2gnet.training.processes import is_first
    from l2gnet.training.run import train as train_model

    trained = train_model(settings, run_dir)
    if not is_first(settings):
        return
    dataset = trained.dataset
    scores = evaluate_cases(trained.model, dataset.validation, trained.grid, dataset.classes, settings.convention)
    header = {"model": settings.model, "data": dataset.name, "convention": settings.convention}
    write_scores(trained.run_dir, scores, dataset.validation, header)
    print(text_table(structure_table(scores)))
    print(f"run folder: {trained.run_dir}")
