"""What a trained model does when something within it is changed: the same for a click, a notebook and a batch job."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from l2gnet.checks import require
from l2gnet.data.outputs import labels_of, probabilities_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.slices import SliceSet
from l2gnet.errors import ConfigError
from l2gnet.evaluation.overlap import Overlap
from l2gnet.inspection.changed_parts import ChangedRelation, changed_bottleneck, evaluating, plans_of
from l2gnet.inspection.changes import Interventions, Relation, check_interventions
from l2gnet.inspection.partners import of_other_patients
from l2gnet.models.backbone import SegmentationModel, SegmentationUNet, Trace
from l2gnet.models.blocks.latent import Latent
from l2gnet.prediction.inference import network_input
from l2gnet.shapes import Bool, Float, Int64

__all__ = ["Intervened", "Intervener", "Interventions", "Relation", "SliceScores", "intervene", "intervene_slices"]
__all__ += ["Means", "mean_skips"]

Means = Mapping[int, Float[Tensor, "_ _ _"]]
_BATCH = 8  # images that pass at once


@dataclass(frozen=True, eq=False)
class Intervened:
    """What the model makes of images when it is changed, and where its labels are others than when left alone.

    `codes` are those of the bottleneck's pixels after the change; silenced ones keep their number. `sending` and
    `receiving` are the plans by which tokens were related, if they were: they have a row for each code of an image,
    named in `row_codes` (-1 in padding), empty for silenced ones. Without a codebook each token has a row. Where tokens
    receive by themselves, `receiving` is summed over those of each code, and `hearing` has a row for each of them.
    """

    probabilities: Float[Tensor, "B L H W"]
    labels: Int64[Tensor, "B H W"]
    plain_labels: Int64[Tensor, "B H W"]
    codes: Int64[Tensor, "B h w"] | None = None
    row_codes: Int64[Tensor, "B U"] | None = None
    sending: Float[Tensor, "B heads U R"] | None = None
    receiving: Float[Tensor, "B heads U R"] | None = None
    hearing: Float[Tensor, "B heads N R"] | None = None

    @property
    def changed(self) -> Bool[Tensor, "B H W"]:
        """Where the labels are others."""
        return self.labels != self.plain_labels


@dataclass(frozen=True, eq=False)
class _Seen:
    """Images that were looked at, and what of their way through the model no change within it concerns."""

    images: Tensor
    weights: list[tuple[int, int]]
    levels: list[Tensor]
    trace: Trace
    labels: Tensor


class Intervener:
    """A model that is asked again and again what it does when it is changed; the model itself is left as it is.

    What it needs of the last images it keeps, so that they pass the encoder once, whatever is changed.

    Args:
        model: any of this project.
        other: one image, or as many as there will be, whose references are heard by relation `other`.
        skip_means: of the levels whose skips may be changed (see `mean_skips`).
        regions: of which labels the classes of the model are made, where each is not one.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        other: Float[Tensor, "_ C _ _"] | None = None,
        skip_means: Means | None = None,
        regions: Regions = NO_REGIONS,
    ):
        self.model, self.other, self.skip_means, self.regions = model, other, skip_means or {}, regions
        self._last: _Seen | None = None
        self._other: Tensor | None = None

    @torch.no_grad()
    def run(self, images: Float[Tensor, "B C H W"], interventions: Interventions) -> Intervened:
        """Segment images with all of these changes; without any, to the bit as the model does.

        Raises:
            ValueError: the model does not take the images, or has nothing that could so be changed.
        """
        check_interventions(self.model, interventions)
        with evaluating(self.model):
            seen = self._seen(images)
            trace, relation = seen.trace, None
            if interventions != Interventions():
                trace, relation = self._changed(seen, interventions)
            probabilities = probabilities_of(trace.logits.float(), self.regions)
        plans = relation.plans if relation else plans_of(self.model, trace)
        return Intervened(
            probabilities,
            labels_of(probabilities, self.regions),
            seen.labels,
            trace.latent.codes,
            *((plans.codes, plans.sending, plans.receiving, plans.hearing) if plans else ()),
        )

    def _seen(self, images: Float[Tensor, "B C H W"]) -> _Seen:
        last = self._last
        weights = [(each.data_ptr(), each._version) for each in (*self.model.parameters(), *self.model.buffers())]
        if last is None or last.weights != weights:
            self._other = None  # the other images passed another encoder
        if last is None or last.weights != weights or not _same(last.images, images):
            there = images.to(next(self.model.parameters()).device)
            levels: list[Tensor] = []
            if isinstance(self.model, SegmentationUNet):
                levels, deepened, latent = _levels(self.model, there)
                trace = self.model.decoded(deepened, latent)
            else:
                trace = self.model.trace(there)
            labels = labels_of(probabilities_of(trace.logits.float(), self.regions), self.regions)
            self._last = last = _Seen(images.clone(), weights, levels, trace, labels)
        return last

    def _changed(self, seen: _Seen, asked: Interventions) -> tuple[Trace, ChangedRelation | None]:
        """The way from the bottleneck on, and what related the tokens there."""
        model = self.model
        assert isinstance(model, SegmentationUNet)  # or all had been refused
        latent, relation = seen.trace.latent, None
        if asked != Interventions(skips=asked.skips):
            bottleneck, relation = changed_bottleneck(model, asked, self._theirs(seen, asked))
            latent = bottleneck(seen.levels[-1])
        levels = model.deepened(seen.levels[:-1], latent.features)
        for level in asked.skips:
            levels[level] = self._mean_skip(level, levels[level])
        return model.decoded(levels, latent), relation

    def _theirs(self, seen: _Seen, asked: Interventions) -> Tensor | None:
        """What the references of the other images gather, under the same changes; None where nobody hears them."""
        if asked.relation != "other":
            return None
        assert isinstance(self.model, SegmentationUNet)
        images = len(seen.labels)
        rule = f"one image or {images}, to hear their references by relation 'other'"
        given = 0 if self.other is None else len(self.other)
        require(given in (1, images), "other", rule, given, "; give other")
        assert self.other is not None
        if self._other is None:
            self.model.check_images(self.other)
            self._other = self.model.encoded(self.other.to(seen.labels.device))[-1]
        bottleneck, relation = changed_bottleneck(self.model, replace(asked, relation="own"))
        bottleneck(self._other)
        return None if relation is None else relation.slots

    def _mean_skip(self, level: int, skip: Tensor) -> Tensor:
        """The mean over images for each image."""
        require(
            level in self.skip_means,
            "skips",
            "levels whose means are given",
            level,
            "; give reference_images, or means as of mean_skips",
        )
        mean, wanted = self.skip_means[level].to(skip), tuple(skip.shape[1:])
        rule = f"the shape {wanted} of what it replaces at level {level}"
        require(mean.shape == wanted, "skip_means", rule, tuple(mean.shape), "; take means of images of this size")
        return mean.expand_as(skip)


def intervene(
    model: SegmentationModel,
    images: Float[Tensor, "B C H W"],
    interventions: Interventions,
    *,
    other: Float[Tensor, "_ C _ _"] | None = None,
    reference_images: Float[Tensor, "S C H W"] | None = None,
    regions: Regions = NO_REGIONS,
) -> Intervened:
    """What a model does when it is changed: one call, without anything kept; the model is left as it is.

    Args:
        model: any of this project.
        images: as the model takes them, 0 to 1.
        interventions: what is changed.
        other: one image, or as many as `images`, whose references are heard by relation `other`.
        reference_images: over which the mean of a skip is taken.
        regions: of which labels the classes of the model are made, where each is not one.

    Raises:
        ValueError: the model does not take the images, or has nothing that could so be changed.
    """
    means = None
    if interventions.skips and reference_images is not None:
        means = mean_skips(model, reference_images.split(_BATCH))
    return Intervener(model, other=other, skip_means=means, regions=regions).run(images, interventions)


@dataclass(frozen=True, eq=False)
class SliceScores:
    """What changes of a model cost over slices, by the volumes (cases) that they belong to.

    Dice of each structure, NaN where neither truth nor labels have it, and the share of the pixels whose label changes.
    """

    names: tuple[str, ...]
    plain_dice: Float[np.ndarray, "cases structures"]
    changed_dice: Float[np.ndarray, "cases structures"]
    changed_share: Float[np.ndarray, " cases"]


def intervene_slices(
    model: SegmentationModel,
    slices: SliceSet,
    interventions: Interventions,
    *,
    batch_size: int = _BATCH,
    progress: Callable[[int, int], object] | None = None,
    other: Float[Tensor, "1 C _ _"] | None = None,
    skip_means: Means | None = None,
    patients: Sequence[str] = (),
    regions: Regions = NO_REGIONS,
) -> SliceScores:
    """What changes of a model cost over a volume or a data set.

    Args:
        model: any of this project.
        slices: on the grid of the model, with labels.
        interventions: what is changed.
        batch_size: slices that pass at once.
        progress: told (slices done, slices in all) after each batch, where slices that pass twice, first for the mean
            of a skip, count twice; it may raise, to stop.
        other: whose references are heard by relation `other`; by default those of a slice of another patient, drawn
            anew for each slice and in the same way each time.
        skip_means: by default over these slices.
        patients: whose each case of the slices is; by default each is a patient's own.
        regions: of which labels the classes of the model are made, where each is not one.

    Raises:
        ValueError: as `intervene` does, or there is no other patient.
    """
    check_interventions(model, interventions)
    require(len(slices) > 0, "slices", "one or more", len(slices))
    batches = [np.arange(at, min(at + batch_size, len(slices))) for at in range(0, len(slices), batch_size)]
    passes = 2 if interventions.skips and skip_means is None else 1

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, passes * len(slices))

    def told() -> Iterator[Float[Tensor, "_ C H W"]]:
        for rows in batches:
            yield network_input(slices.images[rows])
            tell(int(rows[-1]) + 1)

    if passes == 2:
        skip_means = mean_skips(model, told())
    partners = None
    if interventions.relation == "other" and other is None:
        patients = patients or slices.names
        require(len(set(patients)) > 1, "patients", "two or more for relation 'other'", len(set(patients)))
        partners = of_other_patients(slices, patients, seed=0)
    overlaps: list[Overlap] = []
    moved, pixels = np.zeros((2, len(slices.names)))
    for rows in batches:
        theirs = other if partners is None else network_input(slices.images[partners[rows]])
        intervener = Intervener(model, other=theirs, skip_means=skip_means, regions=regions)
        found = intervener.run(network_input(slices.images[rows]), interventions)
        if not overlaps:
            classes = found.probabilities.shape[1] + bool(regions)
            overlaps = [Overlap(len(slices.names), classes, regions=regions) for _ in range(2)]
        truth, case = torch.from_numpy(slices.labels[rows]), torch.from_numpy(slices.case[rows])
        for overlap, labels in zip(overlaps, (found.plain_labels, found.labels), strict=True):
            overlap.add(labels.cpu(), truth, case)
        np.add.at(moved, slices.case[rows], found.changed.sum((1, 2)).cpu().numpy())
        np.add.at(pixels, slices.case[rows], truth[0].numel())
        tell((passes - 1) * len(slices) + int(rows[-1]) + 1)
    plain, changed = (overlap.dice().numpy() for overlap in overlaps)
    return SliceScores(slices.names, plain, changed, moved / np.where(pixels, pixels, np.nan))


@torch.no_grad()
def mean_skips(model: SegmentationModel, batches: Iterable[Float[Tensor, "_ C H W"]]) -> Means:
    """The mean of each skip over images of one size, place by place, by its level.

    Raises:
        ValueError: the model does not take the images, has no skips of the shared backbone, or there is no image.
    """
    if not isinstance(model, SegmentationUNet):
        raise ConfigError(f"model must be one of the shared backbone, to have skips, got {type(model).__name__}")
    totals: list[Tensor] = []
    count = 0
    with evaluating(model):
        for images in batches:
            skips = _levels(model, images.to(next(model.parameters()).device))[1][:-1]
            sums = [skip.double().sum(0) for skip in skips]
            totals = [total + each for total, each in zip(totals, sums, strict=True)] if totals else sums
            count += len(images)
    require(count > 0, "images", "one or more, for the mean of a skip", count)
    return {level: (total / count).float() for level, total in enumerate(totals)}


def _levels(model: SegmentationUNet, images: Tensor) -> tuple[list[Tensor], list[Tensor], Latent]:
    """Features of all levels down to the bottleneck, those of all that there are after it, and what it gives."""
    model.check_images(images)
    levels = model.encoded(images)
    latent = model.bottleneck(levels[-1])
    return levels, model.deepened(levels[:-1], latent.features), latent


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.device == other.device and torch.equal(one, other)
