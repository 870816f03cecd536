"""Does a block matter? What a trained model loses when the answer of a block is taken away, or is another patient's.

A network can lean on what it does not need: what it loses without a block says that it has grown used to it, not that
it would be worse without. That is told by training alone, by runs with the block and runs without, from the same seeds.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from l2gnet.data.dataset import Case
from l2gnet.data.outputs import labels_of, probabilities_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.slices import SliceSet, prepare_slices
from l2gnet.data.volume import IGNORED
from l2gnet.errors import ConfigError
from l2gnet.evaluation.comparison import bootstrap_interval
from l2gnet.evaluation.overlap import Overlap
from l2gnet.inspection.blocks import Block, blocks_of, changed, kept
from l2gnet.inspection.partners import of_other_patients
from l2gnet.inspection.redundancy import redundancy, relations
from l2gnet.method.mapper import Mapped
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import network_input
from l2gnet.shapes import Float, Int64

Verdict = Literal["idle", "constant", "leans", "matters"]
LEAST = 0.005  # of Dice: half a point, below which nothing is made of a difference
_FEWEST_PATIENTS = 5  # for an interval
_REMOVED, _MEAN, _OTHER, _HEARD, _PERMUTED = (
    "removed",
    "mean of the image",
    "another patient's",
    "another patient's, heard by its own plan",
    "tokens exchanged",
)


@dataclass(frozen=True)
class Loss:
    """A mean over patients and its 95 % interval, by a bootstrap over them; of Dice, as a share."""

    mean: float
    low: float
    high: float

    @classmethod
    def over(cls, patients: Float[np.ndarray, " patients"], resamples: int = 2000) -> "Loss":
        """The mean over patients that were drawn with replacement."""
        return cls(float(patients.mean()), *bootstrap_interval(patients, np.mean, resamples))

    def __str__(self) -> str:
        """In points of Dice."""
        return f"{100 * self.mean:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass(frozen=True)
class Change:
    """What the model loses by a change of a block: Dice, of each structure, and what it misses more (as a share)."""

    dice: Loss
    missed: Loss
    structures: Mapping[str, float]


@dataclass(frozen=True)
class BlockAudit:
    """What was found of a block.

    `similarity` is the mean cosine between whom two tokens listen to: near 1 the relation does not depend on who asks.
    `marginal_errors` are those of the plans, sending first. `worth` is what training without the block loses.
    """

    name: str
    kind: str
    changes: Mapping[str, Change]
    entropy: float | None = None
    similarity: float | None = None
    marginal_errors: tuple[float, ...] = ()
    worth: Loss | None = None

    @property
    def verdict(self) -> Verdict:
        """In one word; see `verdict_of`."""
        other = self.changes.get(_OTHER)
        return verdict_of(self.changes[_REMOVED].dice, other.dice if other else None, self.worth)

    def __str__(self) -> str:
        """In words."""
        said = {
            "idle": "without it the model does as well",
            "constant": "it is missed, but any patient's answer serves as well as one's own",
            "leans": "the model needs this patient's own answer",
            "matters": "the model needs this patient's own answer, and training without it is worse",
        }[self.verdict]
        if self.verdict == "leans":
            said += ", but training without it is not worse" if self.worth else "; whether it is worth that, only "
            said += "" if self.worth else "training without it can tell"
        told = f"; {self.similarity:.2f} alike whoever asks" if self.similarity is not None else ""
        return f"{self.name}: {self.verdict}: {said}{told}"


@dataclass(frozen=True)
class Audit:
    """What a model does with each of its blocks; it shows itself in a notebook."""

    dice: float
    patients: int
    structures: tuple[str, ...]
    blocks: tuple[BlockAudit, ...] = field(default_factory=tuple)

    def rows(self) -> list[dict[str, str]]:
        """One row a block and change, for `text_table`: what is lost, in points of Dice and of what is missed."""
        return [
            {
                "block": block.name,
                "answer": name,
                "Dice lost": str(change.dice),
                "missed more": str(change.missed),
                **{structure: f"{100 * lost:+.1f}" for structure, lost in change.structures.items()},
            }
            for block in self.blocks
            for name, change in block.changes.items()
        ]

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = "".join(f"<th>{name}</th>" for name in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{value}</td>" for value in row.values()) + "</tr>" for row in rows)
        verdicts = "".join(f"<p><b>{block}</b></p>" for block in self.blocks)
        return f"<table><tr>{head}</tr>{body}</table>{verdicts}"


def verdict_of(removal: Loss, other: Loss | None, worth: Loss | None) -> Verdict:
    """What losses say of a block, in points of Dice.

    idle: removal costs less than half a point. constant: it costs more, and another patient's answer does not. leans:
    another's costs at least half a point, its interval above 0. matters: so, and training without the block is worse
    by at least half a point, its interval above 0.
    """
    if other is not None and other.mean >= LEAST and other.low > 0:
        return "matters" if worth is not None and worth.mean >= LEAST and worth.low > 0 else "leans"
    return "idle" if removal.mean < LEAST else "constant"


@torch.no_grad()
def audit(
    model: nn.Module,
    slices: SliceSet,
    classes: Sequence[str],
    *,
    patients: Sequence[str] = (),
    blocks: Sequence[str] = (),
    worth: Loss | None = None,
    batch_size: int = 16,
    seed: int = 0,
    regions: Regions = NO_REGIONS,
) -> Audit:
    """Audit the blocks of a model on slices of its grid.

    Any model that maps images (B, C, H, W) to logits (B, L, H, W) can be audited: name its `blocks`, modules that map
    features to features. One of this project knows its own. The slice whose answer replaces a patient's
    own is drawn from those of other patients, as `seed` decides.

    Args:
        model: the trained model.
        slices: with labels; those of a case add up before Dice is taken.
        classes: names of the labels, background first.
        patients: whose each case of the slices is; by default each is a patient's own.
        blocks: names of the modules.
        worth: what training without these blocks loses (see `patient_gains`).
        batch_size: slices that pass at once.
        seed: draws the other slices, and the order in which tokens are exchanged.
        regions: of which labels the classes are made, where each is not one.

    Raises:
        ConfigError: there is nothing to audit, no structure, or too few patients for an interval.
    """
    patients = patients or slices.names
    count = len(set(patients))
    if len(classes) < 2:
        raise ConfigError(f"an audit needs a structure beside the background, got the classes {', '.join(classes)}")
    if count < _FEWEST_PATIENTS:
        raise ConfigError(f"an audit needs at least {_FEWEST_PATIENTS} patients for an interval, got {count}")
    model.eval()
    found = blocks_of(model, blocks)
    partners = of_other_patients(slices, patients, seed)
    plain = Overlap(len(slices.names), len(classes), regions=regions)
    overlaps: dict[tuple[str, str], Overlap] = {}
    looks: dict[str, list[tuple[float, float]]] = {}
    errors: dict[str, list[tuple[float, ...]]] = {}
    for start in range(0, len(slices), batch_size):
        rows = np.arange(start, min(start + batch_size, len(slices)))
        images, others = (_images(model, slices, at) for at in (rows, partners[rows]))
        with kept(found) as theirs:
            model(others)
        with kept(found) as own:
            _add(plain, model(images), slices, rows)
        for block in found:
            for name, change in _changes(block, theirs[block.name], seed + start):
                counts = Overlap(len(slices.names), len(classes), regions=regions)
                overlap = overlaps.setdefault((block.name, name), counts)
                with changed(block, change):
                    _add(overlap, model(images), slices, rows)
            output = own[block.name][1]
            if isinstance(output, Mapped):
                both = (output.transport, output.receiving)
                errors.setdefault(block.name, []).append(tuple(float(plan.marginal_error.max()) for plan in both))
        for name, look in _looks(model, images).items():
            looks.setdefault(name, []).append(look)
    audited = []
    for block, (entropy, similarity) in zip(found, _told(found, looks), strict=True):
        changes = {
            name: _change(plain, overlaps[block.name, name], slices, patients, classes)
            for name in _CHANGES
            if (block.name, name) in overlaps
        }
        worst = tuple(np.max(errors[block.name], axis=0).tolist()) if block.name in errors else ()
        audited.append(BlockAudit(block.name, block.kind, changes, entropy, similarity, worst, worth))
    return Audit(float(plain.dice().nanmean()), count, tuple(classes[1:]), tuple(audited))


_CHANGES = (_REMOVED, _MEAN, _OTHER, _HEARD, _PERMUTED)


def open_slices(
    cases: Sequence[Case], card: ModelCard, classes: Sequence[str], regions: Regions = NO_REGIONS
) -> SliceSet:
    """The slices of cases on a model's grid, with their masks, of these classes, in the numbers of the model.

    Raises:
        ConfigError: masks or model are of regions, and not both of the same.
    """
    if regions or card.regions:
        if (tuple(classes), regions) != (card.classes, card.regions):
            rule = f"an audit of regions needs masks with the labels of the model, {', '.join(card.labels[1:])}"
            found = ", ".join(regions.label_names(classes)[1:])
            raise ConfigError(f"{rule}, got {found}; write labels in dataset.json as those of its training")
        return prepare_slices(cases, card.grid, len(card.labels))
    slices = prepare_slices(cases, card.grid, len(classes))
    label_of = np.full(IGNORED + 1, IGNORED, np.uint8)
    label_of[: len(classes)] = [card.classes.index(name) for name in classes]
    return replace(slices, labels=label_of[slices.labels])


def _changes(block: Block, other: tuple[Tensor, Any], seed: int) -> Iterator[tuple[str, Callable]]:
    """Each change of a block, with what it makes of inputs, output and answer."""
    answer, output = other

    def mean(inputs: Any, output: Any, own: Tensor) -> Tensor:
        return own.mean(block.token_axes(own), keepdim=True).expand_as(own)

    def permuted(inputs: Any, output: Any, own: Tensor) -> Tensor:
        axes = block.token_axes(own)
        tokens = own.movedim(axes, tuple(range(1, len(axes) + 1)))
        flat = tokens.flatten(1, len(axes))
        order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(flat.device)
        return flat[:, order].reshape(tokens.shape).movedim(tuple(range(1, len(axes) + 1)), axes)

    def heard(inputs: Any, output: Any, own: Tensor) -> Tensor:
        indices, shape = (*inputs[1:], None, None)[:2]
        return block.module.heard(output.receiving, theirs.slots, indices, shape)  # type: ignore[operator]

    yield _REMOVED, lambda inputs, output, own: block.nothing(own)
    yield _MEAN, mean
    if block.kind == "global":
        yield _OTHER, lambda inputs, output, own: answer
        if isinstance(output, Mapped) and block.sends_and_receives:
            theirs = output
            yield _HEARD, heard
        yield _PERMUTED, permuted


def _images(model: nn.Module, slices: SliceSet, rows: Int64[np.ndarray, " B"]) -> Float[Tensor, "B C H W"]:
    return network_input(slices.images[rows]).to(next(model.parameters()).device)


def _add(overlap: Overlap, logits: Float[Tensor, "B L H W"], slices: SliceSet, rows: Int64[np.ndarray, " B"]) -> None:
    predicted = labels_of(probabilities_of(logits.float(), overlap.regions), overlap.regions).cpu()
    overlap.add(predicted, torch.from_numpy(slices.labels[rows]), torch.from_numpy(slices.case[rows]))


def _change(
    plain: Overlap, other: Overlap, slices: SliceSet, patients: Sequence[str], classes: Sequence[str]
) -> Change:
    lost = (plain.dice() - other.dice()).numpy()  # (cases, structures)
    missed = (other.false_negatives() - plain.false_negatives()).numpy()
    return Change(
        Loss.over(_by_patient(lost, patients)),
        Loss.over(_by_patient(missed, patients)),
        dict(zip(classes[1:], _mean(lost, axis=0).tolist(), strict=True)),
    )


def _by_patient(values: Float[np.ndarray, "cases structures"], patients: Sequence[str]) -> Float[np.ndarray, " _"]:
    """The mean over the cases and structures of each patient."""
    names = np.array(patients)
    means = np.array([_mean(values[names == name]) for name in dict.fromkeys(patients)], dtype=np.float64)
    return means[~np.isnan(means)]  # a patient may have none of the structures


def _mean(values: Float[np.ndarray, "..."], axis: int | None = None) -> Any:
    """The mean without structures that a case has not; NaN where nothing is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=axis)


def _looks(model: nn.Module, images: Float[Tensor, "B C H W"]) -> dict[str, tuple[float, float]]:
    """Entropy and similarity of each relation that a model of this project makes."""
    if not isinstance(model, SegmentationModel):
        return {}
    found = {name: redundancy(matrix) for name, matrix in relations(model, images).items()}
    return {name: (look.entropy, look.similarity) for name, look in found.items()}


def _told(
    blocks: Sequence[Block], looks: Mapping[str, Sequence[tuple[float, float]]]
) -> list[tuple[float | None, float | None]]:
    """Means over the batches, for each block that relates tokens; relations come in the order of the blocks."""
    relating = [block.name for block in blocks if block.kind == "global"]
    means = [np.mean(look, axis=0).tolist() for look in looks.values()]
    known = dict(zip(relating, means, strict=True)) if len(means) == len(relating) else {}
    return [tuple(known.get(block.name, (None, None))) for block in blocks]
