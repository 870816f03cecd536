"""The model card for people: what a model was trained on, how well it did, and what it must not be used for.

After Mitchell et al. 2019, arXiv 1810.03993.
"""

from typing import Any

from l2gnet.models.card import NOT_CLINICAL, ModelCard
from l2gnet.prediction.familiar import Familiar

_TRAINING = ("recipe", "batch_size", "learning_rate", "weight_decay", "flips", "precision", "split_seed", "seed")


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
        f"- finds: {', '.join(card.classes[1:])}" + ", each by itself: they may overlap" * bool(card.regions),
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
