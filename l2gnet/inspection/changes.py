"""What can be changed within a model, as one asks for it: in Python, or as JSON from a screen or a job."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral
from typing import Any, Literal, get_args

from torch import nn

from l2gnet.checks import nearest, require
from l2gnet.errors import ConfigError
from l2gnet.models.backbone import SegmentationModel, SegmentationUNet

Relation = Literal["own", "none", "mean", "other", "exact"]
_NUMBERS = ("silenced_codes", "silenced_references", "skips")


@dataclass(frozen=True)
class Interventions:
    """What is changed within a model, all at once; the default changes nothing.

    A code that is silenced takes its mass out of the plans, and the rest is solved anew at the same prices; its tokens
    hear nothing, and their own vector is the mean of the image's other tokens (zero where there is none): what a model
    without plans is given in their place. Codes are replaced first, all at once, and then silenced.

    Args:
        silenced_codes: codes whose tokens neither send, nor hear, nor say anything of their own.
        replaced_codes: for a code, the one that stands in for it.
        silenced_references: slots, in every head, whose columns go; those left share their mass alike.
        relation: `own`; `none`, by which tokens hear nothing; `mean`, by which all of an image hear the mean of what
            they would hear; `other`, by which they hear through their own plan what the references of another image
            have gathered, under the same changes; `exact`, by plans without entropy.
        skips: levels of the encoder, 0 at full resolution, whose skip is its mean over images instead.
        epsilon: weight of the entropy of the plan that sends; None for the model's own.
        epsilon_receive: the same of the plan that receives, where that is another one.

    Raises:
        ConfigError: a number is negative or none, a code is both silenced and replaced, or the relation is unknown.
    """

    silenced_codes: tuple[int, ...] = ()
    replaced_codes: Mapping[int, int] = field(default_factory=dict)
    silenced_references: tuple[int, ...] = ()
    relation: Relation = "own"
    skips: tuple[int, ...] = ()
    epsilon: float | None = None
    epsilon_receive: float | None = None

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            numbers = getattr(self, name)
            fits = isinstance(numbers, tuple) and all(map(_is_index, numbers))
            require(fits, name, "a tuple of numbers from 0", numbers)
            object.__setattr__(self, name, tuple(map(int, numbers)))  # also of NumPy's, which JSON does not know
        pairs = self.replaced_codes
        fits = isinstance(pairs, Mapping) and all(map(_is_index, (*pairs, *pairs.values())))
        require(fits, "replaced_codes", "a number from 0 for each of some others", pairs)
        object.__setattr__(self, "replaced_codes", {int(code): int(other) for code, other in pairs.items()})
        both = sorted(set(self.silenced_codes) & set(pairs))
        require(not both, "replaced_codes", "of codes that are not silenced too", both, "; leave out one of the two")
        known = get_args(Relation)
        require(self.relation in known, "relation", f"one of {', '.join(known)}", self.relation)
        for name in ("epsilon", "epsilon_receive"):
            value = getattr(self, name)
            number = type(value) in (int, float) and 0 < value < math.inf
            require(value is None or number, name, "None, or a weight above 0", value)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; codes that are replaced are strings there."""
        values = asdict(self)
        for name in _NUMBERS:
            values[name] = list(values[name])
        values["replaced_codes"] = {str(code): other for code, other in self.replaced_codes.items()}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Interventions":
        """Back from JSON; what is not named is not changed.

        Raises:
            ConfigError: a key is unknown, or a value breaks its rule.
        """
        require(isinstance(values, Mapping), "interventions", "an object of names and values", values)
        names = [each.name for each in fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(f"unknown intervention {name!r}{nearest(str(name), names)}")
        read = dict(values)
        for name in _NUMBERS:
            if isinstance(read.get(name), list):
                read[name] = tuple(read[name])
        if isinstance(read.get("replaced_codes"), Mapping):
            pairs = read["replaced_codes"].items()
            read["replaced_codes"] = {int(code) if str(code).isdecimal() else code: other for code, other in pairs}
        return cls(**read)


def check_interventions(model: SegmentationModel, asked: Interventions) -> None:
    """Raise ConfigError unless the model has what is to be changed."""
    codes = (*asked.silenced_codes, *asked.replaced_codes, *asked.replaced_codes.values())
    K = 0 if model.codebook is None else len(model.codebook.vectors)
    _require_below(K, "codes to silence or replace", codes, "a codebook", "; use one that has, as vq_unet or l2gnet")
    R = 0 if model.mapper is None else int(model.mapper.references.shape[-2])
    _require_below(R, "silenced_references", asked.silenced_references, "references", "; use one that has, as l2gnet")
    related = isinstance(getattr(model.bottleneck, "mapper", None), nn.Module)
    possible = get_args(Relation) if R else ("own", "none", "mean") if related else ("own",)
    require(asked.relation in possible, "relation", f"one of {', '.join(possible)} for this model", asked.relation)
    sets = 0 if model.mapper is None else len(model.mapper.setting.epsilons)
    for number, name in enumerate(("epsilon", "epsilon_receive")):
        value = getattr(asked, name)
        rule = "None for a model without such a plan"
        require(value is None or number < sets, name, rule, value, "; use an l2gnet that sends and receives")
    levels = len(model.decoder) if isinstance(model, SegmentationUNet) else 0
    _require_below(levels, "skips", asked.skips, "skips of the shared backbone", "; use a model that has")


def _require_below(count: int, name: str, numbers: tuple[int, ...], what: str, remedy: str) -> None:
    rule = f"numbers from 0 to {count - 1}, as the model has" if count else f"none for a model without {what}"
    over = [number for number in numbers if number >= count]
    require(not over, name, rule, over, "" if count else remedy)


def _is_index(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
