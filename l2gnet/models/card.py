"""What a checkpoint says of itself: read from its header alone, without torch and without its weights."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open

from l2gnet.checks import exists, nearest_path
from l2gnet.data.grid import Grid, Plane
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.errors import CheckpointError
from l2gnet.models import MODELS, Variant
from l2gnet.models.settings import UNNAMED

FORMAT = "l2gnet-2"
FORMATS = (FORMAT, "l2gnet-1")  # that can be read; models.older knows the names of the latter
NOT_CLINICAL = "For research and teaching. Not for clinical use: no one has tested that it is safe or effective."
_SHIPPED = Path(__file__).parent / "shipped"
_LARGEST_PX = 8192  # of a model's grid
_BUFFER = re.compile(r"\.codebook\.|\.(running_mean|running_var|num_batches_tracked)$")


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says of itself: how to build the model, how to feed it, and where it comes from.

    `plane` is the one that the model's slices lie in: a fixed one, or the plane that each scan was acquired in.
    `channels` are the names of the image channels that it takes, in order. With `regions` its outputs are those.
    `training` holds the settings of its training and the fingerprints of data and code.
    """

    model: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    grid: Grid
    training: dict[str, Any] = field(default_factory=dict)
    plane: Plane = "acquired"
    channels: tuple[str, ...] = ("image",)
    regions: Regions = NO_REGIONS

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels that it gives, by number; without regions they are the classes."""
        return self.regions.label_names(self.classes)

    @property
    def windows(self) -> tuple[tuple[float, float] | None, ...]:
        """The intensity range that each channel is seen through; None where its percentiles decide."""
        return tuple(self.grid.window_of(number) for number in range(len(self.channels)))


def shipped_models() -> list[str]:
    """Names of the trained models that come with the library; each stands wherever a checkpoint does."""
    return sorted(file.stem for file in _SHIPPED.glob("*.safetensors"))


def checkpoint_file(path: str | Path) -> Path:
    """The file of a checkpoint, which may be named by its run folder, or as one of `shipped_models()`.

    Raises:
        CheckpointError: there is no such file.
    """
    path = Path(path)
    for file in (path, path / "model.safetensors"):
        if exists(file) and file.is_file():
            return file
    if str(path) in shipped_models():
        return _SHIPPED / f"{path}.safetensors"
    rule = "a checkpoint must be a safetensors file, a run folder with model.safetensors, or a model that comes along"
    raise CheckpointError(f"{path}: {rule} ({', '.join(shipped_models())}), found none{nearest_path(path)}")


def count_parameters(path: str | Path) -> int:
    """How many numbers of a checkpoint are trained by gradients, as buffers and codes are not; from its header alone.

    Raises:
        CheckpointError: the file is missing, damaged or not one of ours.
    """
    read_card(path)
    with safe_open(checkpoint_file(path), framework="np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no dict)
    return sum(math.prod(shape) for name, shape in shapes.items() if not _BUFFER.search(name))


def read_card(path: str | Path) -> ModelCard:
    """Read what a checkpoint, or the one in a run folder, says of itself, without its weights.

    Raises:
        CheckpointError: the file is missing, damaged or not one of ours.
    """
    path = checkpoint_file(path)
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: a checkpoint must be a safetensors file, got: {error}; train it again"
        ) from error
    if header.get("format") not in FORMATS:
        raise CheckpointError(
            f"{path}: a checkpoint of this project has the format {FORMAT}, got {header.get('format')}; "
            "use a model.safetensors from a run folder"
        )
    try:
        card = _parsed_card(json.loads(header["card"]), older=header["format"] != FORMAT)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: the model card is damaged ({str(error)[:200]}); train it again") from error
    if card.model not in MODELS:  # as one that a newer version, or a user, has added
        raise CheckpointError(f"{path}: this l2gnet has no model {card.model[:100]!r}; use the one that made it")
    return card


def patient_fingerprint(patient: str) -> str:
    """A hash of a patient's name, to know it again; whoever tries names or numbers finds those that can be guessed.

    No salt would help: who gets the model must know its patients again, and so has all that it takes.
    """
    return hashlib.sha256(patient.encode()).hexdigest()[:12]


def _parsed_card(card: Mapping[str, Any], older: bool) -> ModelCard:
    """The card of a header's JSON; every value is of its type and within its bounds, or ValueError says which."""
    model, settings, classes = card["model"], card["settings"], card["classes"]
    grid, training, plane = card["grid"], card.get("training", {}), card.get("plane", "acquired")
    channels = card.get("channels", ["image"])  # older cards do not say
    _require(isinstance(model, str), "model", model)
    _require(isinstance(settings, dict), "settings", settings)
    variant = settings.get("variant", "matched")
    if model == "l2gnet" and older:  # in version 0.1.0 there was one relation
        settings = {"relation": "symmetric", "references": 64, "heads": 1} | settings
    if model == "l2gnet" and settings.get("relation", "send-receive") == "send-receive":
        settings = settings | UNNAMED | settings  # in their order
    _require(variant in get_args(Variant), "variant", variant)
    for name, value in settings.items():  # whether the model takes them is looked at when it is built
        plain = isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))
        _require(plain, name, value)
    _require(isinstance(classes, list) and all(isinstance(name, str) for name in classes), "classes", classes)
    _require(2 <= len(classes) <= 255, "classes", classes)  # labels are bytes, and 255 is what nobody knows
    regions = _parsed_regions(card.get("regions", {}), len(classes) - 1)
    _require(regions.outputs(classes) == settings["classes"], "classes", classes)
    _require(
        isinstance(channels, list)
        and all(isinstance(name, str) for name in channels)
        and len(channels) == settings.get("channels", 1),
        "channels",
        channels,
    )
    spacing_mm, size_px, window = grid["spacing_mm"], grid["size_px"], grid["window"]
    windowed = grid.get("windowed", [])
    _require(type(spacing_mm) in (int, float) and 0 <= spacing_mm < math.inf, "spacing_mm", spacing_mm)
    _require(type(size_px) is int and 1 <= size_px <= _LARGEST_PX, "size_px", size_px)
    if window is not None:
        low, high = (float(value) for value in window)
        _require(-math.inf < low < high < math.inf, "window", window)
        window = low, high
    _require(isinstance(windowed, list) and all(type(n) is int for n in windowed), "windowed", windowed)
    _require_training(training)
    _require(plane in get_args(Plane), "plane", plane)
    seen = Grid(float(spacing_mm), size_px, window, tuple(windowed))
    return ModelCard(model, settings, tuple(classes), seen, training, plane, tuple(channels), regions)


def _require_training(training: Any) -> None:
    """What is read of it has its type; whatever else it says of a training is passed on."""
    _require(isinstance(training, dict), "training", training)
    for name in ("settings", "familiar", "metrics"):
        _require(isinstance(training.get(name, {}), dict), name, training.get(name))
    patients, parts, metrics = training.get("trained_on", []), training.get("parts", 1), training.get("metrics")
    _require(isinstance(patients, list) and all(isinstance(each, str) for each in patients), "trained_on", patients)
    _require(type(parts) is int, "parts", parts)
    if not metrics:
        return
    structures, overall, _ = metrics["structures"], metrics["overall"], metrics["cases"]
    _require(isinstance(structures, dict), "metrics", metrics)
    for row in (*structures.values(), overall):
        means = [row["dice"]["mean"], row["hd95_mm"]["mean"]]
        numbers = all(mean is None or (type(mean) in (int, float) and math.isfinite(mean)) for mean in means)
        _require(numbers and type(row["missed"]) is int, "metrics", metrics)


def _parsed_regions(regions: Any, structures: int) -> Regions:
    _require(isinstance(regions, dict), "regions", regions)
    labels, painted = regions.get("labels", []), regions.get("painted", [])  # older cards have none
    _require(isinstance(labels, list) and len(labels) in (0, structures), "regions", labels)
    _require(isinstance(painted, list) and len(painted) == len(labels), "painted", painted)
    for region, number in zip(labels, painted, strict=True):
        numbers = isinstance(region, list) and all(type(n) is int and 0 < n < 255 for n in region)
        _require(numbers and number in region, "regions", labels)
    return Regions(tuple(map(tuple, labels)), tuple(painted))


def _require(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} cannot be {value!r}")
