"""The settings that decide a model, and the precision that it computes in."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from l2gnet.checks import nearest_path, require, require_choices, require_least
from l2gnet.models import ModelName, Variant, model_options
from l2gnet.models.levels import level_of

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Cost = Literal["cosine", "euclidean", "dot"]
Readout = Literal["barycentric", "grid"]
Relation = Literal["send-receive", "symmetric", "attention", "mean", "none"]
Positions = Literal["none", "absolute", "relative"]
Receivers = Literal["tokens", "codes"]
UNNAMED = {"receivers": "codes"}  # what held before cards and runs said it, where that is no longer the default
# What is no size, and not for published models to have:
_MATCHED_ONLY = (
    "deep_supervision",
    "tokens_at",
    "commitment",
    "positions",
    "epsilon",
    "epsilon_receive",
    "cost",
    "readout",
)
_LARGEST = 4096  # channels, dimensions and references; the layer between two of so many holds 600 MB


@dataclass(frozen=True)
class ModelSettings:
    """Which model, and how large; the defaults are small enough for a demonstration."""

    model: ModelName = "l2gnet"  # unet, attn_unet, vq_unet, transunet, synergynet or l2gnet
    variant: Variant = "matched"  # matched (one backbone for all models) or published (sizes of the model's source)
    pretrained: str = ""  # file of ImageNet weights to start from, .npz or .safetensors (published transunet)
    width: int = 8  # channels at full resolution; they double at each level (published models have their own sizes)
    depth: int = 4  # halvings of the resolution between image and bottleneck
    deep_supervision: bool = False  # also train the coarser decoder levels
    tokens_at: int = 0  # tokens lie at 1/4, 1/8 or 1/16 of the resolution: 4, 8, 16; 0 is the deepest level
    codes: int = 128  # K, vectors in the codebook; 0 leaves tokens as they are in l2gnet (vq_unet, synergynet, l2gnet)
    code_dim: int = 32  # d, dimension of a code (vq_unet, synergynet, l2gnet)
    commitment: float = 0.0  # weight of the loss that draws tokens to their codes (vq_unet, synergynet, l2gnet)
    relation: Relation = "send-receive"  # send-receive (two plans), symmetric (one), attention, mean or none (l2gnet)
    positions: Positions = "none"  # tokens say where they lie: none, absolute (in the picture) or relative (l2gnet)
    receivers: Receivers = "tokens"  # what receives by the second plan: tokens before quantisation, or codes (l2gnet)
    references: int = 16  # R, trainable references of each head that codes are transported to (l2gnet)
    heads: int = 4  # parts of the code dimension with transport plans each (l2gnet)
    epsilon: float = 0.02  # entropy of the plan that sends, in units of the cost, which lies in 0 to 1 (l2gnet)
    epsilon_receive: float = 0.05  # entropy of the plan that receives; a symmetric relation has none (l2gnet)
    cost: Cost = "cosine"  # cost between codes and references: cosine, euclidean or dot (l2gnet)
    readout: Readout = "barycentric"  # way back from references to pixels: barycentric or grid (l2gnet)

    def __post_init__(self) -> None:
        require_choices(self)
        if self.pretrained:
            fits = (self.model, self.variant) == ("transunet", "published")
            require(fits, "pretrained", "empty for any model but published transunet", self.pretrained)
            there = Path(self.pretrained).is_file()
            require(there, "pretrained", "a file of weights", self.pretrained, nearest_path(self.pretrained))
        require_least(self, 1, "width", "depth", "code_dim", "references", "heads", most=_LARGEST)
        require_least(self, 0, "codes", "tokens_at", most=2**20)
        require_least(self, 0, "commitment")
        widest = self.width * 2**self.depth
        require(widest <= _LARGEST, "width", f"at most {_LARGEST} / 2^depth, as it doubles at each level", self.width)
        continuous = self.model not in ("vq_unet", "synergynet")
        require(self.codes > 0 or continuous, "codes", f"at least 1 for {self.model}", self.codes)
        for name in ("epsilon", "epsilon_receive"):
            value = getattr(self, name)
            require(1e-4 <= value <= 1000, name, "from 0.0001 to 1000, beside costs from 0 to 1", value)
        if self.variant == "matched":
            level_of(self.tokens_at, self.depth)
        else:
            for each in fields(ModelSettings):
                kept = each.name not in _MATCHED_ONLY or getattr(self, each.name) == each.default
                rule = f"{each.default!r} for published models, which have their own; or variant must be matched"
                require(kept, each.name, rule, getattr(self, each.name))
        if self.model == "l2gnet":
            self._require_relation()

    def _require_relation(self) -> None:
        """Check what decides how l2gnet relates its tokens against each other."""
        # Published L2GNet has a dimension of its own.
        dim, whose = (256, "the published code_dim") if self.variant == "published" else (self.code_dim, "code_dim")
        headed = self.relation not in ("mean", "none")
        require(dim % self.heads == 0 or not headed, "heads", f"a divisor of {whose} = {dim}", self.heads)
        if self.variant == "published":
            return
        relative = self.relation in ("send-receive", "attention") or self.positions != "relative"
        require(relative, "positions", f"none or absolute for relation {self.relation!r}", self.positions)
        symmetric = self.relation == "symmetric" or self.readout != "grid"
        require(symmetric, "readout", f"barycentric for relation {self.relation!r}", self.readout)

    @property
    def halvings(self) -> int:
        """How often the model halves the resolution; published ones have a depth of their own."""
        return self.depth if self.variant == "matched" else 4

    def require_size(self, size_px: int) -> None:
        """Raise ConfigError unless the model takes images of so many pixels."""
        smallest = 2 ** (self.halvings + 1)  # what lies deepest has four pixels, enough to be normalised
        require(size_px >= smallest, "size_px", f"at least {smallest} at depth {self.halvings}", size_px)
        cell = self.tokens_at or 2**self.halvings  # a token is of so many pixels, and none is left over
        require(size_px % cell == 0, "size_px", f"a multiple of {cell}, the pixels along a token", size_px)
        if self.model == "l2gnet" and self.variant == "matched" and self.readout == "grid":
            tokens = (size_px // (self.tokens_at or 2**self.depth)) ** 2
            rule = f"{tokens}, one for each token, for readout 'grid' at size_px {size_px}"
            require(self.references == tokens, "references", rule, self.references)

    def model_settings(self, classes: int, channels: int = 1) -> dict[str, Any]:
        """The part of these settings that builds the model, for `build_model(settings.model, ...)`."""
        own = asdict(self)
        names = ["variant", *(name for name in model_options(self.model, self.variant) if name in own)]
        return {"classes": classes, "channels": channels} | {name: own[name] for name in names}
