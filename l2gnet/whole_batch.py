"""A batch that is spread over processes: each works on its part, and what is taken of a whole batch stays that."""

import torch
from torch import Tensor, distributed, nn

from l2gnet.shapes import Float, Num


def part(whole: Num[Tensor, "B ..."]) -> Num[Tensor, "_ ..."]:
    """This process's part of a batch; one that does not split evenly is filled up from its start."""
    if not distributed.is_initialized():
        return whole
    rows = -(-len(whole) // distributed.get_world_size())
    first = distributed.get_rank() * rows
    return whole[torch.arange(first, first + rows, device=whole.device) % len(whole)]


def gathered(part: Num[Tensor, "..."]) -> Num[Tensor, "..."]:
    """The parts of all processes, one after the other; of numbers a vector.

    The gradient is of the sum of all processes' losses.
    """
    return _Gather.apply(torch.atleast_1d(part)) if distributed.is_initialized() else part


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part):
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in _ranks()]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient.chunk(distributed.get_world_size())[distributed.get_rank()]


def _ranks() -> range:
    return range(distributed.get_world_size())


class WholeBatchNorm(nn.BatchNorm2d):
    """Normalise by mean and variance of the whole batch, as torch's `SyncBatchNorm`, which is faster, on GPUs only."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Statistics are in float32 or better, also under autocast."""
        if not self.training:
            return super().forward(x)
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        moments = torch.stack(torch.var_mean(exact, (0, 2, 3), correction=0))
        variances, means = gathered(moments[None]).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * len(means))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Float[Tensor, " C"], variance: Float[Tensor, " C"], count: int) -> None:
        assert self.momentum is not None
        self.get_buffer("num_batches_tracked").add_(1)
        self.get_buffer("running_mean").lerp_(mean, self.momentum)
        self.get_buffer("running_var").lerp_(variance * count / (count - 1), self.momentum)


def normalise_whole_batches(model: nn.Module, device: torch.device) -> None:
    """Let every batch norm of a model that trains on this device be one of whole batches."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = WholeBatchNorm
