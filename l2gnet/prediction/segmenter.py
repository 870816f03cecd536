"""Scans of one's own: trained models applied to them, and what is said of the result beside the labels."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from tqdm.auto import tqdm

from l2gnet.checks import require
from l2gnet.data.formats.dicom_seg import write_segs
from l2gnet.data.formats.dicom_series import Series
from l2gnet.data.inputs import LABELS_END
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import Volume, write_arrays, write_labels
from l2gnet.errors import CheckpointError, VolumeError, unwritable
from l2gnet.files import content_hash, write_json
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.models.settings import Precision
from l2gnet.prediction.cardiac import CardiacFunction, cardiac_function
from l2gnet.prediction.doubt import Strangeness, find_strange, flagged, said_of_frames
from l2gnet.prediction.familiar import Familiar
from l2gnet.prediction.inference import Segmented, best_device, segment
from l2gnet.prediction.views import trained_views
from l2gnet.shapes import Float

_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of each frame of a scan (one, or those of a cine), with numbers and doubts beside them.

    `confidence` is what the model thinks of each slice, from 0 to 1; `strange` what is unusual about each frame.
    `probabilities`, where they were asked for, are a volume for each frame with a channel for each class or region.
    """

    name: str
    classes: tuple[str, ...]
    labels: tuple[Volume, ...]
    confidence: Float[np.ndarray, "T D"]
    strange: tuple[Strangeness, ...]
    probabilities: tuple[Volume, ...] = ()
    regions: Regions = NO_REGIONS

    @functools.cached_property
    def volumes_ml(self) -> list[dict[str, float]]:
        """The volume of each structure in each frame, in millilitres."""
        return [structure_volumes_ml(frame, self.classes, self.regions) for frame in self.labels]

    @functools.cached_property
    def function(self) -> CardiacFunction | None:
        """Cardiac function, for a cine of the heart."""
        return cardiac_function(dict(enumerate(self.volumes_ml, start=1)))

    @functools.cached_property
    def doubts(self) -> list[str]:
        """Why a person should look before using this result; empty where nothing is unusual."""
        frames = enumerate(zip(self.strange, self.labels, strict=True), start=1)
        empty = "no structure was found"
        reasons = said_of_frames(
            {n: [*strange.reasons, *[empty] * (not labels.array.any())] for n, (strange, labels) in frames}
        )
        if function := self.function:
            return [*reasons, *function.doubts]
        several = f"its {len(self.labels)} frames were taken for moments in time: are they channels?"
        return [*reasons, *[several] * (len(self.labels) > 1)]

    def __str__(self) -> str:
        """One line: volumes or function, and the slice that the model is least sure of."""
        result = str(self.function or ", ".join(f"{name} {ml:.1f} ml" for name, ml in self.volumes_ml[0].items()))
        frame, least = np.unravel_index(self.confidence.argmin(), self.confidence.shape)
        where = f"slice {least + 1}" + f" of frame {frame + 1}" * (len(self.labels) > 1)
        sure = f"confidence {self.confidence.mean():.2f}, {self.confidence.min():.2f} in {where}"
        return f"{self.name}: {result}; {sure}{flagged(self.doubts)}"


class Segmenter:
    """Trained models that segment scans together, each with the same say.

    Args:
        checkpoints: model files; several are an ensemble, as of one model trained with several seeds.
        batch_size: slices that pass the network at once.
        augment: test-time augmentation, by the views that each model was trained with; three to five times as slow.
        precision: bf16-mixed and 16-mixed are faster where the hardware has them, and change a few labels.
        probabilities: keep the probability of each class or region, too: four bytes a voxel and class.

    Raises:
        ConfigError: there is no such precision.
        CheckpointError: a file cannot be used, the models do not segment the same structures on the same grid, or
            a card does not say how its model was trained and `augment` needs to know.
    """

    def __init__(
        self,
        *checkpoints: str | Path,
        batch_size: int = 8,
        augment: bool = False,
        precision: Precision = "32-true",
        probabilities: bool = False,
    ):
        require(precision in get_args(Precision), "precision", f"one of {', '.join(get_args(Precision))}", precision)
        loaded = [load_checkpoint(path) for path in checkpoints]
        self.models = [model.to(best_device()) for model, _ in loaded]
        self.card = loaded[0][1]
        self.familiar = [Familiar.of(card) for _, card in loaded]
        for path, model, familiar in zip(checkpoints, self.models, self.familiar, strict=True):
            codes = 0 if model.codebook is None else len(model.codebook.vectors)
            if familiar is not None and len(familiar.code_counts) != codes:
                rule = f"a card must count the uses of each of the {codes} codes"
                raise CheckpointError(f"{path}: {rule}, got {len(familiar.code_counts)} counts; train the model again")
        self.batch_size, self.precision, self.probabilities = batch_size, precision, probabilities
        self.views = [trained_views(card) for _, card in loaded] if augment else []
        for path, (_, card) in zip(checkpoints, loaded, strict=True):
            ours, others = _task(self.card), _task(card)
            if differing := [name for name in ours if ours[name] != others[name]]:
                raise CheckpointError(
                    f"{path}: the models of an ensemble must share classes, regions, channels, grid and plane, got "
                    + "; ".join(f"{name} {_told(others[name])} beside {_told(ours[name])}" for name in differing)
                    + "; name models of one task"
                )

    def predict(
        self, frames: Sequence[Volume], name: str, *, on_slices: Callable[[int], object] | None = None
    ) -> Prediction:
        """Segment every frame of a scan in the plane that the model was trained on.

        `on_slices`, in the place of a bar in the terminal, hears of every batch of slices done, `slice_count` in all;
        what it raises ends the work.

        Raises:
            VolumeError: the frames differ in shape, have other channels than the model takes, or their voxel size is
                unknown and the model needs it; or what it says of them is not finite.
        """
        require_frames(frames, name, self.card)
        heard = on_slices is not None
        with tqdm(total=self.slice_count(frames), desc=name, unit="slice", leave=False, disable=heard) as bar:
            try:
                done = [self._segment(frame, on_slices or bar.update) for frame in frames]
            except VolumeError as error:
                raise VolumeError(f"{name}: {error}") from error
        return Prediction(
            name=name,
            classes=self.card.classes,
            labels=tuple(
                frame.like(seen.labels.turned(frame.axes).array)
                for frame, (seen, _, _) in zip(frames, done, strict=True)
            ),
            confidence=np.stack([seen.confidence for seen, _, _ in done]),
            strange=tuple(strange for _, strange, _ in done),
            probabilities=tuple(shares for _, _, shares in done if shares is not None),
            regions=self.card.regions,
        )

    def slice_count(self, frames: Sequence[Volume]) -> int:
        """How many slices these frames have in the plane of the model."""
        return sum(len(frame.in_plane(self.card.plane).array) for frame in frames)

    def _segment(self, scan: Volume, tell: Callable[[int], object]) -> tuple[Segmented, Strangeness, Volume | None]:
        turned = scan.in_plane(self.card.plane)
        shares: list[Float[torch.Tensor, "B L H W"]] = []
        device, dtype = best_device().type, _MIXED.get(self.precision)
        with torch.autocast(device, dtype, enabled=dtype is not None):
            seen = segment(
                self.models,
                turned,
                self.card.grid,
                batch_size=self.batch_size,
                regions=self.card.regions,
                views=self.views,
                on_slices=tell,
                on_scores=(lambda part: shares.append(part.cpu())) if self.probabilities else lambda part: None,
            )
        strange = find_strange(turned, seen, self.familiar, self.card.classes, self.card.regions, self.card.grid)
        if not shares:
            return seen, strange, None
        first, *more = torch.cat(shares).movedim(1, 0).numpy()
        back = replace(turned, array=first, more=tuple(more)).turned(scan.axes)
        return seen, strange, replace(scan, array=back.array, more=back.more)


def _task(card: ModelCard) -> dict[str, object]:
    """What the models of an ensemble must share, by name."""
    regions = {f"{name} of regions": value for name, value in vars(card.regions).items()}
    return {"classes": card.classes, **regions, "channels": card.channels, **vars(card.grid), "plane": card.plane}


def _told(value: object) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


def require_frames(frames: Sequence[Volume], name: str, card: ModelCard) -> None:
    """Raise VolumeError unless the frames of a scan share a shape and have the channels that a model takes."""
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) != 1:
        raise VolumeError(f"{name}: the frames of a scan must have one shape; found {shapes}; predict them singly.")
    found = sorted({len(frame.channels) for frame in frames})
    if found != [len(card.channels)]:
        rule = f"a scan must have the image channels that the model takes, {', '.join(card.channels)}"
        raise VolumeError(f"{name}: {rule}; found {found[0]}; name the files of all of them and no others.")


def structure_volumes_ml(labels: Volume, classes: Sequence[str], regions: Regions = NO_REGIONS) -> dict[str, float]:
    """The volume of each structure of a label map, in millilitres; `regions` are of several labels each."""
    # Slice by slice: it counts in int64, eight times the memory of the labels.
    count = len(regions.label_names(classes))
    voxels = np.sum([np.bincount(part.ravel(), minlength=count) for part in labels.array], axis=0)
    voxel_ml = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    structures = zip(classes[1:], regions.labels_of(len(classes)), strict=True)
    return {name: float(voxels[list(numbers)].sum()) * voxel_ml for name, numbers in structures}


def write_prediction(folder: str | Path, prediction: Prediction, *, end: str = LABELS_END) -> Path:
    """Write `NAME_labels.nii.gz` on the scan's own grid and `NAME_labels.json` beside it; returns the former's path.

    An empty `end` of the names gives those of nnU-Net, `NAME.nii.gz`. Regions are lists of labels, as in dataset.json.

    Raises:
        VolumeError: the files cannot be written.
    """
    path = Path(folder) / f"{prediction.name}{end}.nii.gz"
    frames = zip(prediction.volumes_ml, prediction.confidence.tolist(), prediction.strange, strict=True)
    classes, regions = prediction.classes, prediction.regions
    painted = {"regions_class_order": list(regions.painted)} if regions else {}
    about: dict[str, Any] = {
        "labels": dict(zip(classes, (0, *map(list, regions.labels)) if regions else range(len(classes)), strict=True)),
        **painted,
        "frames": [
            {
                "volumes_ml": volumes_ml,
                "slice_confidence": [round(value, 4) for value in confidence],
                "code_distance": strange.distance,
                "code_surprise_nats": strange.surprise,
                "unused_codes_share": strange.unused,
            }
            for volumes_ml, confidence, strange in frames
        ],
        "doubts": prediction.doubts,
    }
    if prediction.function:
        about["cardiac_function"] = prediction.function.as_dict()
    described = path.with_name(f"{prediction.name}{end}.json")
    _write_json(described, about)  # first: no labels without their doubts
    write_labels(path, *prediction.labels)
    _write_json(described, about | {"labels_sha256": content_hash(path)})  # which tells when a person corrects them
    return path


def write_function(folder: str | Path, patient: str, function: CardiacFunction) -> None:
    """Write `PATIENT_function.json`; raises VolumeError where that cannot be done."""
    _write_json(Path(folder) / f"{patient}_function.json", function.as_dict() | {"doubts": list(function.doubts)})


def write_probabilities(folder: str | Path, prediction: Prediction) -> None:
    """Write `NAME_probabilities.nii.gz`, or for a cine a `NAME_probabilities_frameNN.nii.gz` for each frame.

    4-D float32 on the scan's own grid: a volume for each class, in the order of the labels from background on. They
    add up to one in each voxel, and the largest is the label's. Or a volume for each region, which do not: what is
    above a half in a voxel decides its label.

    Raises:
        VolumeError: a file cannot be written.
    """
    paths = _paths(folder, prediction, "_probabilities", ".nii.gz")
    for path, shares in zip(paths, prediction.probabilities, strict=True):
        write_arrays(path, shares, *shares.channels)


def write_seg(
    folder: str | Path, prediction: Prediction, series: Series, model: str, *, all_planes: bool = False
) -> None:
    """Write `NAME_labels.dcm`, or for a cine a `NAME_labels_frameNN.dcm` for each frame: DICOM SEG of a series.

    It names the patient as the series does. `model` is the name of what made the labels. With `all_planes` a structure
    has a frame on each plane of the series, empty where it is not.

    Raises:
        VolumeError: a file cannot be written.
    """
    paths = _paths(folder, prediction, LABELS_END, ".dcm")
    write_segs(
        series,
        paths,
        prediction.labels,
        prediction.classes,
        model=model,
        all_planes=all_planes,
        regions=prediction.regions,
    )


def _paths(folder: str | Path, prediction: Prediction, end: str, suffix: str) -> list[Path]:
    """A file for each frame, numbered where there are several."""
    return [Path(folder) / f"{prediction.name}{end}{n}{suffix}" for n in frame_ends(len(prediction.labels))]


def frame_ends(count: int) -> list[str]:
    """What the names of files say of each frame of a scan; nothing where it is the only one."""
    return [f"_frame{frame:02d}" for frame in range(1, count + 1)] if count > 1 else [""]


def _write_json(path: Path, value: dict[str, Any]) -> None:
    try:
        write_json(path, value)
    except OSError as error:
        raise unwritable(path, error) from error
