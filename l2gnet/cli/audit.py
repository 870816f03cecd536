"""`l2gnet audit`: does a block of a model matter, or is it carried along?"""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from l2gnet.checks import require_path
from l2gnet.data.settings import DataSettings
from l2gnet.errors import ConfigError
from l2gnet.tables import text_table


def audit(
    model: Annotated[Path, tyro.conf.Positional],
    data_dir: Annotated[Path, tyro.conf.Positional],
    data: Literal["acdc", "synapse", "decathlon"] = "acdc",
    channel: str = "",
    with_block: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = (),
    without_block: Annotated[tuple[Path, ...], tyro.conf.arg(name="without")] = (),
) -> None:
    """Say what a model loses without each block that relates its tokens, and with another patient's answer of it.

    On slices of patients that the model was not trained on. What a block is worth, training alone can tell: name runs
    with it and runs without it, of the same seeds.

    Args:
        model: A checkpoint: a run folder, or model.safetensors of one.
        data_dir: The data folder, with masks.
        data: What kind of folder it is; decathlon is any of MSD's or nnU-Net's form.
        channel: The image channels to use, by name or number; by default those that the model was trained on.
        with_block: Run folders, or folders that hold them, of training with the block.
        without_block: The same of training without it.
    """
    from l2gnet.models.card import read_card

    card = read_card(model)
    settings = DataSettings(data=data, data_dir=str(data_dir), channel=channel)
    require_path(*with_block, *without_block)
    if bool(with_block) != bool(without_block):
        raise ConfigError("worth is told by runs with and without the block, got one kind; name --with and --without")
    from l2gnet.evaluation.comparison import patient_gains, read_runs
    from l2gnet.evaluation.scores import open_for_model, unseen
    from l2gnet.inspection.audit import Loss, open_slices
    from l2gnet.inspection.audit import audit as audit_model
    from l2gnet.models.checkpoint import load_checkpoint

    dataset = open_for_model(settings, card)
    cases = unseen(card, dataset.cases)
    if not cases:
        raise ConfigError(f"{data_dir}: the model was trained on every patient; name other data")
    worth = None
    if with_block:
        worth = Loss.over(patient_gains(read_runs(*with_block), read_runs(*without_block), "dice"))
    network, _ = load_checkpoint(model)
    slices = open_slices(cases, card, dataset.classes, dataset.regions)
    owners = [case.patient for case in cases]
    found = audit_model(network, slices, card.classes, patients=owners, worth=worth, regions=card.regions)
    print(
        f"Dice {found.dice:.4f} on slices of {found.patients} patients, on the grid of the model; losses in points:\n"
    )
    print(text_table(found.rows()))
    print("\n" + "\n".join(map(str, found.blocks)))
