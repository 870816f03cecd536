"""Weights under the names of version 0.1.0, which took its blocks and its quantiser from other libraries."""

import re
from collections.abc import Mapping

from torch import Tensor

_TODAY = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\bconv_([01])\.", r"\1."),  # two convolutions
        (r"\badn\.N\.", "norm."),
        (r"\bupsample\.deconv\.", "upsample."),
        (r"\bconv([12])\.conv\.", r"conv\1."),  # residual block
        (r"\b(W_g|W_x|psi)\.0\.conv\.", r"\1.0."),  # attention gate
        (r"\bbn([123])\.", r"norm\1."),  # ResNet
        (r"\bdownsample\.", "shortcut."),
        (r"\bquantiser\._codebook\.embed$", "vectors"),
        (r"\bquantiser\._codebook\.cluster_size$", "uses"),
        (r"\bquantiser\._codebook\.embed_avg$", "sums"),
        (r"\bquantiser\._codebook\.initted$", "started"),
    )
)


def name_today(name: str) -> str:
    """What a weight of version 0.1.0 is called today."""
    for pattern, today in _TODAY:
        name = pattern.sub(today, name)
    return name


def weights_today(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model of version 0.1.0 for one of today."""
    codebook = re.compile(r"\b_codebook\.")  # the library keeps room for several codebooks in a leading axis
    return {
        name_today(name): tensor.squeeze(0) if codebook.search(name) else tensor for name, tensor in weights.items()
    }
