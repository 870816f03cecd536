"""How much of the image a bottleneck pixel looks at: the effective receptive field, measured by gradients.

Luo et al. 2016, arXiv 1701.04128: the theoretical field (140 pixels wide at depth 4) is mostly empty; what counts is
where the gradient is.
"""

import torch
from torch import Tensor

from l2gnet.inspection.changed_parts import evaluating
from l2gnet.models.backbone import SegmentationModel
from l2gnet.shapes import Float


def receptive_field_px(model: SegmentationModel, images: Float[Tensor, "B C H W"], *, share: float = 0.95) -> int:
    """Side of the smallest square, in image pixels, that holds `share` of the gradient of a pixel's features.

    It is centred on the pixel in the middle, and the gradient is averaged over the images.

    Raises:
        ValueError: `share` does not lie in 0..1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in 0..1, got {share}")
    seen: list[Tensor] = []
    look = model.bottleneck.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.enable_grad(), look, evaluating(model):
        images = images.clone().requires_grad_()
        model.trace(images)
        (h, w), (H, W) = seen[0].shape[2:], images.shape[2:]
        (gradient,) = torch.autograd.grad(seen[0][:, :, h // 2, w // 2].square().sum(), images)
    weight = gradient.abs().sum((0, 1)).double()
    rows, columns = ((torch.arange(n) + 0.5 - (cells // 2 + 0.5) * n / cells).abs() for n, cells in ((H, h), (W, w)))
    # Half the side of the square that is wide enough for each pixel.
    away = torch.maximum(rows[:, None], columns).flatten().ceil().long().to(weight.device)
    held = weight.new_zeros(int(away.max()) + 1).index_add_(0, away, weight.flatten()).cumsum(0)
    return 2 * max(1, int((held < share * held[-1] * (1 - 1e-9)).sum()))
