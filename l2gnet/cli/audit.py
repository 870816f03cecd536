"""`l2gnet audit`: does a block of a model matter, or is it carried along?"""

from pathlib import Path
from typing import Annotated

import tyro

from l2gnet.checks import require, require_path
from l2gnet.data.settings import DataSettings, Name
from l2gnet.errors import ConfigError
from l2gnet.evaluation.grids import scores_folder
from l2gnet.tables import text_table

_FIGURES = (".svg", ".png", ".pdf")


def audit(
    model: Annotated[Path, tyro.conf.Positional],
    data_dir: Annotated[Path | None, tyro.conf.Positional] = None,
    data: Name = "acdc",
    channel: str = "",
    with_block: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = (),
    without_block: Annotated[tuple[Path, ...], tyro.conf.arg(name="without")] = (),
    figure: Path | None = None,
) -> None:
    """Say what a model loses without each block that relates its tokens, and with another patient's answer of it.

    On slices of patients that the model was not trained on. What a block is worth, training alone can tell: name runs
    with it and runs without it, of the same seeds. On a made task it also says how far away what it finds is decided.

    Args:
        model: A checkpoint, a run folder, or the name of a model that comes along.
        data_dir: The data folder, with masks; phantoms need none.
        data: What kind of folder it is; decathlon is any of MSD's or nnU-Net's form.
        channel: The image channels to use, by name or number; by default those that the model was trained on.
        with_block: Run folders, or folders that hold them, of training with the block.
        without_block: The same of training without it.
        figure: Draw it here, too, as .svg, .png or .pdf.
    """
    from l2gnet.models.card import read_card

    card = read_card(model)
    trained = card.training.get("settings", {})
    made = data.startswith("phantom") and trained.get("data") == data
    as_trained = ("patients", "validation_patients", "split_seed", "field_shift")  # those held out, seen as they were
    same = {name: trained[name] for name in as_trained if made and name in trained}
    settings = DataSettings(data=data, data_dir=str(data_dir or ""), channel=channel, **same)
    require_path(*map(scores_folder, (*with_block, *without_block)))
    if figure is not None:
        require(figure.suffix in _FIGURES, "figure", f"a file {', '.join(_FIGURES)}", str(figure))
        from l2gnet.widgets.charts import plot_audit  # first, since it may lack an extra
        from l2gnet.widgets.pictures import save_figure
    if bool(with_block) != bool(without_block):
        raise ConfigError("worth is told by runs with and without the block, got one kind; name --with and --without")
    from l2gnet.evaluation.comparison import read_runs
    from l2gnet.evaluation.scores import open_for_model, unseen
    from l2gnet.inspection.audit import audit as audit_model
    from l2gnet.inspection.audit import open_slices
    from l2gnet.inspection.blocks import blocks_of
    from l2gnet.inspection.evidence import evidence_on_grid
    from l2gnet.inspection.verdict import worth_of
    from l2gnet.models.checkpoint import load_checkpoint
    from l2gnet.prediction.inference import on_best_device

    network, _ = load_checkpoint(model)
    blocks_of(network)  # refused before a scan is read
    dataset = open_for_model(settings, card)
    cases = unseen(card, dataset.cases)
    if not cases:
        raise ConfigError(f"{data_dir or data}: the model was trained on every patient; name other data")
    worth = worth_of(read_runs(*with_block), read_runs(*without_block), trained) if with_block else None
    slices = open_slices(cases, card, dataset.classes, dataset.regions)
    owners = [case.patient for case in cases]
    with on_best_device(network):
        found = audit_model(
            network,
            slices,
            card.classes,
            patients=owners,
            structures=dataset.classes[1:],
            worth=worth,
            evidence_px=evidence_on_grid(cases, card.grid),
            regions=card.regions,
        )
    if (shift := trained.get("field_shift", 0)) != settings.field_shift:
        print(f"fields of view are as they are; in training they lay off the middle by up to {shift:g} of a side")
    print(
        f"Dice {found.dice:.4f} on slices of {found.patients} patients, on the grid of the model; losses in points:\n"
    )
    print(text_table(found.rows()))
    if rows := found.reach_rows():
        print("\nlabelled pixels found, by the distance to what decides their class:\n\n" + text_table(rows))
    print("\n" + "\n".join(map(str, found.blocks)))
    if figure is not None:
        save_figure(figure, plot_audit(found), dpi=150, format=figure.suffix[1:])
