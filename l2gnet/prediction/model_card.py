"""The model card for people: what a model was trained on, how well it did, and what it must not be used for.

After Mitchell et al. 2019, arXiv 1810.03993.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from l2gnet.data.dataset import Case, DataSet
from l2gnet.models.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from l2gnet.prediction.doubt import Familiar

_TRAINING = ("recipe", "batch_size", "learning_rate", "weight_decay", "flips", "precision", "split_seed", "seed")
NOT_CLINICAL = "For research and teaching. Not for clinical use: no one has tested that it is safe or effective."


def describe_data(dataset: DataSet) -> dict[str, Any]:
    """What a card keeps of the data: names of patients only as hashes, to know them again and not to give them away."""
    return {
        "data": dataset.name,
        "citation": dataset.citation,
        "licence": dataset.licence,
        "training_volumes": len(dataset.training),
        "held_out_volumes": len(dataset.validation),
        "trained_on": sorted({_fingerprint(case.patient) for case in dataset.training}),
    }


def unseen(card: ModelCard, cases: Sequence[Case]) -> list[Case]:
    """Those of the cases whose patients the model was not trained on, as far as its card knows."""
    known = set(card.training.get("trained_on", ()))
    return [case for case in cases if _fingerprint(case.patient) not in known]


def record_metrics(path: str | Path, metrics: dict[str, Any]) -> None:
    """Add the scores of an evaluation to the card of a checkpoint, atomically; its weights stay as they are."""
    model, card = load_checkpoint(path)
    save_checkpoint(path, model, replace(card, training=card.training | {"metrics": metrics}))


def card_text(card: ModelCard, parameters: int) -> str:
    """The card as Markdown."""
    told = card.training
    settings = ", ".join(f"{name} {value}" for name, value in card.settings.items())
    how = told.get("settings", {})
    training = ", ".join(f"{name} {how[name]}" for name in _TRAINING if name in how)
    parts = f"batches in {told['parts']} parts; " if told.get("parts", 1) > 1 else ""
    grid = f"{card.grid.size_px} x {card.grid.size_px} pixels"
    grid += f" of {card.grid.spacing_mm:g} mm" if card.grid.spacing_mm else ", the whole slice"
    greys = ["from {:g} to {:g}".format(*window) if window else "0.5th to 99.5th percentile" for window in card.windows]
    channels = ", ".join(f"{name} (grey values {g})" for name, g in zip(card.channels, greys, strict=True))
    volumes = f"{told.get('training_volumes', '?')} volumes to train on, {told.get('held_out_volumes', '?')} held out"
    lines = [
        f"# {card.model}, {parameters:,} parameters",
        "",
        NOT_CLINICAL,
        "",
        f"- finds: {', '.join(card.classes[1:])}",
        f"- sees: {card.plane} slices, {grid}",
        f"- channels: {channels}",
        f"- settings: {settings}",
        f"- trained on: {told.get('data', 'unknown')}, {volumes}; {told.get('epochs', '?')} epochs",
        f"- trained with: {training or 'unknown'}; {parts}code {told.get('code', 'unknown')}",
        f"- licence of the data: {told.get('licence', 'unknown')}; whether it binds the weights is for you to judge",
        f"- cite: {told.get('citation', 'unknown')}",
        "",
        *_metrics_lines(told.get("metrics")),
        *_limits_lines(card),
    ]
    return "\n".join(lines)


def _metrics_lines(metrics: dict[str, Any] | None) -> list[str]:
    if not metrics:
        return ["## Scores", "", "None: it was not evaluated.", ""]
    rows = [*metrics["structures"].items(), ("all structures", metrics["overall"])]
    return [
        f"## Scores on {metrics['cases']} held-out volumes",
        "",
        "| structure | Dice | HD95 (mm) | missed |",
        "|---|---|---|---|",
        *(f"| {name} | {_mean(row['dice'], 3)} | {_mean(row['hd95_mm'], 1)} | {row['missed']} |" for name, row in rows),
        "",
    ]


def _limits_lines(card: ModelCard) -> list[str]:
    lines = ["## Limits", ""]
    familiar = Familiar.of(card)
    if familiar is None:
        return [*lines, "Unknown: this card does not say what its data looked like, so no scan can be doubted."]
    spacing = " x ".join(f"{low:.3g}-{high:.3g}" for low, high in familiar.spacing_mm)
    lines.append(f"- voxels of {spacing} mm (D x H x W), as in {familiar.volumes} held-out volumes")
    lines.append(f"- a mean confidence below {familiar.confidence:.2f} is doubtful")
    if familiar.code_counts:
        used = sum(count > 0 for count in familiar.code_counts)
        lines.append(f"- {used} of {len(familiar.code_counts)} codes are in use")
        lines.append(f"- doubtful: features farther than {familiar.distance:.3f} from their codes")
        lines.append(f"- doubtful: codes unusual by more than {familiar.surprise:.2f} nats")
    return [*lines, "- other scanners, diseases and ages than those of the data are untested"]


def _mean(numbers: dict[str, Any], digits: int) -> str:
    return "-" if numbers["mean"] is None else f"{numbers['mean']:.{digits}f}"


def _fingerprint(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()[:12]
