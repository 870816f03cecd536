"""`l2gnet info` and `l2gnet export`: what a model is, and the model for other programs."""

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

import tyro


def info(model: Annotated[Path, tyro.conf.Positional], json: bool = False) -> None:
    """Show the card of a model: data, settings, scores, limits, licence.

    Args:
        model: A checkpoint, a run folder, or the name of a model that comes along.
        json: Show all that the checkpoint says, for programs.
    """
    from l2gnet.models.card import count_parameters, read_card

    card, parameters = read_card(model), count_parameters(model)
    from l2gnet.prediction.model_card import card_text

    print(dumps(asdict(card) | {"parameters": parameters}, indent=2) if json else card_text(card, parameters))


def export(model: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Write a model for programs that do not know this project, with all that they must know in the file.

    Args:
        model: A checkpoint, a run folder, or the name of a model that comes along.
        out: The file to write: .onnx for ONNX Runtime and its kin, .pt2 for torch.export.load.
    """
    from l2gnet.models.card import read_card

    read_card(model)  # a mistake is seen before torch is imported
    from l2gnet.models.checkpoint import load_checkpoint
    from l2gnet.prediction.export import write_export

    write_export(out, *load_checkpoint(model))
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
