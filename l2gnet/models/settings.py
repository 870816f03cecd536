"""The settings that decide a model, and the precision that it computes in."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from l2gnet.checks import nearest_path, require, require_choices, require_least, require_positive
from l2gnet.models import ModelName, Variant, model_options

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Cost = Literal["cosine", "euclidean", "dot"]
Readout = Literal["barycentric", "grid"]
Relation = Literal["send-receive", "symmetric", "attention", "mean", "none"]
Positions = Literal["none", "absolute", "relative"]


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
        require_least(self, 1, "width", "depth", "code_dim", "references", "heads")
        require_least(self, 0, "commitment", "codes", "tokens_at")
        continuous = self.model not in ("vq_unet", "synergynet")
        require(self.codes > 0 or continuous, "codes", f"at least 1 for {self.model}", self.codes)
        require_positive(self, "epsilon", "epsilon_receive")
        require(self.code_dim % self.heads == 0, "heads", f"a divisor of code_dim = {self.code_dim}", self.heads)

    def model_settings(self, classes: int, channels: int = 1) -> dict[str, Any]:
        """The part of these settings that builds the model, for `build_model(settings.model, ...)`."""
        own = asdict(self)
        names = ["variant", *(name for name in model_options(self.model, self.variant) if name in own)]
        return {"classes": classes, "channels": channels} | {name: own[name] for name in names}
