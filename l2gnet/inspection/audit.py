"""Does a block matter? What a trained model loses when the answer of a block is taken away, or is another patient's."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l2gnet.data.dataset import Case
from l2gnet.data.outputs import labels_of, probabilities_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.slices import SliceSet, prepare_slices
from l2gnet.data.volume import IGNORED
from l2gnet.errors import ConfigError
from l2gnet.evaluation.overlap import Overlap
from l2gnet.inspection.blocks import Block, blocks_of, changed, kept, own_blocks
from l2gnet.inspection.changed_parts import evaluating
from l2gnet.inspection.evidence import Distances, Reach, ReachCount
from l2gnet.inspection.partners import of_other_patients
from l2gnet.inspection.redundancy import redundancy, relations
from l2gnet.inspection.verdict import (
    ANSWERS,
    FEWEST_PATIENTS,
    HEARD,
    LEAST_DICE,
    MEAN,
    OTHER,
    PERMUTED,
    REMOVED,
    Audit,
    BlockAudit,
    Change,
    Loss,
    Worth,
)
from l2gnet.method.mapper import Mapped
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import network_input
from l2gnet.shapes import Bool, Float, Float32, Int64


@torch.no_grad()
def audit(
    model: nn.Module,
    slices: SliceSet,
    classes: Sequence[str],
    *,
    patients: Sequence[str] = (),
    structures: Sequence[str] = (),
    blocks: Sequence[str] = (),
    residual: bool = True,
    worth: Worth | None = None,
    evidence_px: Float32[np.ndarray, "S H W"] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    regions: Regions = NO_REGIONS,
) -> Audit:
    """Audit the blocks of a model on slices of its grid.

    Any model that maps images (B, C, H, W) to logits (B, L, H, W) can be audited: name its `blocks`, modules that map
    features to features, each called once. One of this project knows its own. The slice whose answer replaces one's own
    is drawn from all those of other patients, as `seed` decides.

    Args:
        model: the trained model.
        slices: with labels; those of a case add up before Dice is taken.
        classes: names of the labels, background first.
        patients: whose each case of the slices is; by default each is a patient's own.
        structures: those that the masks tell of; by default all classes.
        blocks: names of the modules.
        residual: whether the modules named add to what they are given. Where that is done around them, as around the
            attention of a transformer's layer, say False: then all that they give is taken away or replaced.
        worth: what training without the block loses (see `worth_of`), where it is one block.
        evidence_px: how far away lies what decides the class of each pixel, as made data knows (`evidence_on_grid`).
        batch_size: slices that pass at once.
        seed: draws the other slices, and the order in which tokens are exchanged.
        regions: of which labels the classes are made, where each is not one.

    Raises:
        ConfigError: there is nothing to audit, a structure is unknown, or patients are too few for an interval; the
            model gives no logits for these classes or finds nothing, or a block's answer cannot be replaced.
    """
    patients, structures = patients or slices.names, structures or classes[1:]
    if not structures:
        raise ConfigError(f"an audit needs a structure beside the background, got the classes {', '.join(classes)}")
    if unknown := [name for name in structures if name not in classes[1:]]:
        raise ConfigError(f"structures must be among the classes {', '.join(classes[1:])}, got {', '.join(unknown)}")
    columns = [list(classes[1:]).index(name) for name in structures]
    labels = [label for column in columns for label in regions.labels_of(len(classes))[column]]
    count = _patients_with(labels, slices, patients)
    found = blocks_of(model, blocks, residual=residual)
    if worth is not None and len(found) > 1:
        names = ", ".join(block.name for block in found)
        raise ConfigError(f"worth is that of training without one block, got {names}; leave it out, or name one block")
    partners = of_other_patients(slices, patients, seed)
    distances = None if evidence_px is None else Distances(evidence_px, slices.labels)
    counts = partial(_Counts, slices, classes, columns, regions, distances)
    plain = counts()
    changes: dict[tuple[str, str], _Counts] = defaultdict(counts)
    looks: dict[str, list[tuple[float, float]]] = {}
    errors: dict[str, list[tuple[float, ...]]] = {}
    relating = [block.name for block in own_blocks(model) if block.kind == "global"]
    telling = any(block.name in relating for block in found)
    with evaluating(model):
        for start in range(0, len(slices), batch_size):
            rows = np.arange(start, min(start + batch_size, len(slices)))
            images, others = (_images(model, slices, at) for at in (rows, partners[rows]))
            with kept(found, len(rows)) as theirs:
                model(others)
            with kept(found, len(rows)) as own:
                plain.add(model(images), rows)
            for block in found:
                for name, change in _changes(block, theirs[block.name], seed + start):
                    with changed(block, change):
                        changes[block.name, name].add(model(images), rows)
                output = own[block.name][1]
                if isinstance(output, Mapped):
                    both = (output.transport, output.receiving)
                    errors.setdefault(block.name, []).append(tuple(float(plan.marginal_error.max()) for plan in both))
            if isinstance(model, SegmentationModel) and telling:
                for image in images.split(1):  # as a matrix of all tokens by all tokens takes much memory
                    for name, look in _looks(model, image).items():
                        looks.setdefault(name, []).append(look)
    dice = _mean(_by_patient(plain.dice(), patients))
    if dice < LEAST_DICE:
        rule = f"an audit needs a Dice of at least {LEAST_DICE}, as there must be something to lose, got {dice:.4f}"
        raise ConfigError(f"{rule}; train the model longer, or give scans like those that it was trained on")
    known, audited = _told(relating, looks), []
    for block in found:
        told = {
            name: _change(plain, changes[block.name, name], patients, structures)
            for name in ANSWERS
            if (block.name, name) in changes
        }
        worst = tuple(np.max(errors[block.name], axis=0).tolist()) if block.name in errors else ()
        entropy, similarity = known.get(block.name, (None, None))
        audited.append(BlockAudit(block.name, block.kind, told, entropy, similarity, worst, worth))
    return Audit(dice, count, tuple(structures), tuple(audited), plain.found())


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
        return prepare_slices(cases, card.grid, len(card.labels), card.plane)
    slices = prepare_slices(cases, card.grid, len(classes), card.plane)
    label_of = np.full(IGNORED + 1, IGNORED, np.uint8)
    label_of[: len(classes)] = [card.classes.index(name) for name in classes]
    return replace(slices, labels=label_of[slices.labels])


def _patients_with(labels: Sequence[int], slices: SliceSet, patients: Sequence[str]) -> int:
    """How many patients have one of the labels in their masks: no other tells what is lost. ConfigError for too few."""
    if len(patients) != len(slices.names):
        raise ConfigError(f"patients must name that of each of {len(slices.names)} cases, got {len(patients)} names")
    marked = np.isin(slices.labels, labels).any((1, 2))
    count = len(set(np.array(patients)[slices.case[marked]]))
    if count < FEWEST_PATIENTS:
        rule = f"an audit needs at least {FEWEST_PATIENTS} patients for an interval"
        raise ConfigError(f"{rule}, got {count} with one of its structures in their masks; give it more")
    return count


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
        indices, shape, receivers = (*inputs[1:], None, None, None)[:3]
        told = (None if receivers is not None else indices, shape)
        return block.module.heard(output.receiving, theirs.slots, *told)  # type: ignore[operator]

    yield REMOVED, lambda inputs, output, own: block.nothing(own)
    yield MEAN, mean
    if block.kind == "global":
        yield OTHER, lambda inputs, output, own: answer
        if isinstance(output, Mapped) and block.sends_and_receives:
            theirs = output
            yield HEARD, heard
        yield PERMUTED, permuted


def _images(model: nn.Module, slices: SliceSet, rows: Int64[np.ndarray, " B"]) -> Float[Tensor, "B C H W"]:
    return network_input(slices.images[rows]).to(next(model.parameters()))


class _Counts:
    """What is counted of one answer: overlaps, and where evidence is known, what was found at each distance to it."""

    def __init__(
        self,
        slices: SliceSet,
        classes: Sequence[str],
        columns: Sequence[int],
        regions: Regions,
        distances: Distances | None,
    ):
        self.slices, self.classes, self.columns, self.regions = slices, classes, columns, regions
        self.overlap = Overlap(len(slices.names), len(classes), regions=regions)
        self.at_distance = None if distances is None else ReachCount(distances)

    def add(self, logits: Any, rows: Int64[np.ndarray, " B"]) -> None:
        truth, case = self.slices.labels[rows], self.slices.case[rows]
        if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[2:] != truth.shape[1:]:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(f"the model must give logits (B, L, {truth.shape[1]}, {truth.shape[2]}), got {found}")
        self.regions.require_outputs(logits.shape[1], self.classes)
        predicted = labels_of(probabilities_of(logits.float(), self.regions), self.regions).cpu()
        self.overlap.add(predicted, torch.from_numpy(truth), torch.from_numpy(case))
        if self.at_distance is not None:
            self.at_distance.add(predicted.numpy(), rows)

    def dice(self) -> Float[np.ndarray, "cases structures"]:
        return self.overlap.dice().numpy()[:, self.columns]

    def missed(self) -> Float[np.ndarray, "cases structures"]:
        return self.overlap.false_negatives().numpy()[:, self.columns]

    def found(self) -> Reach | None:
        return None if self.at_distance is None else self.at_distance.reach()


def _change(plain: _Counts, other: _Counts, patients: Sequence[str], structures: Sequence[str]) -> Change:
    before, after = plain.dice(), other.dice()
    lost = _with_none(before, after) - _with_none(after, before)
    missed = other.missed() - plain.missed()
    return Change(
        Loss.over(_by_patient(lost, patients)),
        Loss.over(_by_patient(missed, patients)),
        {name: _mean(_by_patient(lost[:, [n]], patients)) for n, name in enumerate(structures)},
        other.found(),
    )


def _with_none(
    dice: Float[np.ndarray, "cases structures"], beside: Float[np.ndarray, "cases structures"]
) -> Float[np.ndarray, "cases structures"]:
    """Dice is 1 where nothing was found of what is not there, if `beside` gives a false alarm; else it stays NaN."""
    unasked: Bool[np.ndarray, "cases structures"] = np.isnan(dice) & ~np.isnan(beside)
    return np.where(unasked, 1, dice)


def _by_patient(values: Float[np.ndarray, "cases structures"], patients: Sequence[str]) -> Float[np.ndarray, " _"]:
    """The mean over the cases and structures of each patient."""
    names = np.array(patients)
    means = np.array([_mean(values[names == name]) for name in dict.fromkeys(patients)], dtype=np.float64)
    return means[~np.isnan(means)]  # a patient may have none of the structures


def _mean(values: Float[np.ndarray, "..."]) -> float:
    """The mean without structures that a case has not; NaN where nothing is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(values))


def _looks(model: SegmentationModel, image: Float[Tensor, "1 C H W"]) -> dict[str, tuple[float, float]]:
    """Entropy and similarity of each relation that a model makes."""
    found = {name: redundancy(matrix) for name, matrix in relations(model, image).items()}
    return {name: (look.entropy, look.similarity) for name, look in found.items()}


def _told(
    relating: Sequence[str], looks: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[str, tuple[float, float]]:
    """Means over the images, for each block of the model that relates tokens; relations come in the order of these."""
    means = [tuple(np.mean(look, axis=0).tolist()) for look in looks.values()]
    return dict(zip(relating, means, strict=True)) if len(means) == len(relating) else {}
