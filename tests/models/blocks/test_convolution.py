import pytest
import torch
from monai.networks.blocks import Convolution as MonaiConvolution
from monai.networks.blocks import MLPBlock, UnetResBlock, UpSample
from monai.networks.nets.attentionunet import AttentionBlock
from monai.networks.nets.basic_unet import Down as MonaiDown
from monai.networks.nets.basic_unet import TwoConv
from monai.networks.nets.resnet import ResNetBottleneck
from torch import nn

from l2gnet.models.attn_unet import AttentionGate
from l2gnet.models.backbone import deconvolution, upsampled_convolution
from l2gnet.models.blocks.attention import TransformerBlock
from l2gnet.models.blocks.convolution import Convolution, Down, ResidualBlock, TwoConvolutions
from l2gnet.models.blocks.resnet import ResidualUnit

LEAKY = {"act": ("LeakyReLU", {"negative_slope": 0.1, "inplace": True}), "norm": "batch", "bias": False}
RELU = {"act": "relu", "norm": "batch", "bias": False}
GROUPS = ("group", {"num_groups": 32, "eps": 1e-6})


class Gated(nn.Module):
    """A gate on its skip: MONAI's gives the skip as it was let through, ours the share of it."""

    def __init__(self):
        super().__init__()
        self.gate = AttentionGate(8)

    def forward(self, signal, skip):
        return skip * self.gate(signal, skip)


def perceptron(dim):
    torch.manual_seed(0)
    block = TransformerBlock(dim, 1, dropout=0.3).mlp
    torch.manual_seed(0)
    for part in block:  # drawn anew, without the attention that comes before it
        getattr(part, "reset_parameters", bool)()
    return block


def shortcut(stride):
    return nn.Sequential(nn.Conv2d(32, 128, 1, stride=stride, bias=False), nn.GroupNorm(128, 128))


PAIRS = {
    "convolution": (lambda: Convolution(3, 6), lambda: MonaiConvolution(2, 3, 6, **LEAKY), [(2, 3, 8, 9)]),
    "neck": (lambda: Convolution(3, 6, nn.ReLU), lambda: MonaiConvolution(2, 3, 6, **RELU), [(2, 3, 8, 9)]),
    "two": (lambda: TwoConvolutions(3, 6), lambda: TwoConv(2, 3, 6, **LEAKY), [(2, 3, 8, 9)]),
    "two, relu": (lambda: TwoConvolutions(3, 6, nn.ReLU), lambda: TwoConv(2, 3, 6, **RELU), [(2, 3, 8, 9)]),
    "down": (lambda: Down(3, 6), lambda: MonaiDown(2, 3, 6, **LEAKY), [(2, 3, 8, 9)]),
    "deconvolution": (lambda: deconvolution(6, 3), lambda: UpSample(2, 6, 3, 2, mode="deconv"), [(2, 6, 4, 5)]),
    "upsampled": (
        lambda: upsampled_convolution(6, 3),
        lambda: nn.Sequential(nn.Upsample(scale_factor=2), MonaiConvolution(2, 6, 3, **LEAKY)),
        [(2, 6, 4, 5)],
    ),
    "residual": (
        lambda: ResidualBlock(6),
        lambda: UnetResBlock(2, 6, 6, kernel_size=3, stride=1, norm_name="batch", act_name=LEAKY["act"]),
        [(2, 6, 4, 5)],
    ),
    "gate": (Gated, lambda: AttentionBlock(2, f_int=4, f_g=8, f_l=8), 2 * [(2, 8, 4, 5)]),
    "perceptron": (lambda: perceptron(8), lambda: MLPBlock(8, 32, 0.3), [(2, 5, 8)]),
    "unit": (lambda: ResidualUnit(128, 32), lambda: ResNetBottleneck(128, 32, 2, norm=GROUPS), [(2, 128, 4, 5)]),
    "first unit": (
        lambda: ResidualUnit(32, 32, 2, shortcut(2)),
        lambda: ResNetBottleneck(32, 32, 2, 2, downsample=shortcut(2), norm=GROUPS),
        [(2, 32, 4, 6)],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_block_starts_and_computes_as_monais(name):
    results = []
    for make in PAIRS[name][:2]:
        torch.manual_seed(0)
        block = make()
        start = [tensor.clone() for tensor in block.state_dict().values()]
        torch.manual_seed(1)
        for parameter in block.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)  # no two normalisations alike
        inputs = [torch.randn(shape, requires_grad=True) for shape in PAIRS[name][2]]
        trained = block(*inputs)
        trained.square().sum().backward()
        gradients = [tensor.grad for tensor in (*inputs, *block.parameters())]
        after = list(block.state_dict().values())
        results.append((start, [trained, block.eval()(*inputs), *after, *gradients]))
    (start, ours), (monais_start, monais) = results
    for mine, other in zip(start, monais_start, strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(ours, monais, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)
