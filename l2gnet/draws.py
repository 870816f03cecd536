"""What parameters start from."""

import torch
from torch import Tensor

from l2gnet.shapes import Float


def normal(*shape: int) -> Float[Tensor, "..."]:
    """Numbers of mean 0 and variance 1, as torch.randn draws them; on the meta device none.

    There, where a model is built for its shapes alone, torch would import its compiler to draw them: half a second.
    """
    empty = torch.empty(shape)
    return empty if empty.is_meta else empty.normal_()
