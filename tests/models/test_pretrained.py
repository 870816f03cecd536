"""Files with the names and shapes of the real ones, and the ViT repository's own arithmetic as the oracle."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy import ndimage

from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.models.blocks.transformer import TransformerBottleneck
from l2gnet.models.pretrained import load_imagenet_weights
from l2gnet.models.transunet import TransUNet

LAYERS = 2  # of the 12, to keep the files small
STAGES = [(64, 64, 3, 1), (256, 128, 4, 2), (512, 256, 9, 2)]  # channels, planes, units, stride


@pytest.fixture(scope="module")
def flax():
    """What R50+ViT-B_16.npz holds, with random numbers and fewer layers."""
    rng = np.random.default_rng(0)
    shapes = {"conv_root/kernel": (7, 7, 3, 64), "gn_root/scale": (1, 1, 1, 64), "gn_root/bias": (1, 1, 1, 64)}
    for stage, (channels, planes, units, _) in enumerate(STAGES, start=1):
        for unit in range(1, units + 1):
            name = f"block{stage}/unit{unit}"
            inside = channels if unit == 1 else 4 * planes
            convs = {"1": (1, 1, inside, planes), "2": (3, 3, planes, planes), "3": (1, 1, planes, 4 * planes)}
            if unit == 1:
                convs["_proj"] = (1, 1, inside, 4 * planes)
            for i, shape in convs.items():
                shapes[f"{name}/conv{i}/kernel"] = shape
                for kind in ("scale", "bias"):
                    shapes[f"{name}/gn{i}/{kind}"] = (1, 1, 1, shape[3])
    shapes |= {"embedding/kernel": (1, 1, 1024, 768), "embedding/bias": (768,), "cls": (1, 1, 768)}
    shapes |= {"Transformer/posembed_input/pos_embedding": (1, 1 + 16, 768)}
    for i in range(LAYERS):
        name = f"Transformer/encoderblock_{i}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{name}/{norm}/scale": (768,), f"{name}/{norm}/bias": (768,)}
        for part in ("query", "key", "value"):
            part = f"{name}/MultiHeadDotProductAttention_1/{part}"
            shapes |= {f"{part}/kernel": (768, 12, 64), f"{part}/bias": (12, 64)}
        out = f"{name}/MultiHeadDotProductAttention_1/out"
        shapes |= {f"{out}/kernel": (12, 64, 768), f"{out}/bias": (768,)}
        shapes |= {f"{name}/MlpBlock_3/Dense_0/kernel": (768, 3072), f"{name}/MlpBlock_3/Dense_0/bias": (3072,)}
        shapes |= {f"{name}/MlpBlock_3/Dense_1/kernel": (3072, 768), f"{name}/MlpBlock_3/Dense_1/bias": (768,)}
    shapes |= {"Transformer/encoder_norm/scale": (768,), "Transformer/encoder_norm/bias": (768,)}
    shapes |= {"pre_logits/kernel": (768, 768), "pre_logits/bias": (768,), "head/kernel": (768, 5), "head/bias": (5,)}
    return {name: 0.05 * rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TransUNet(channels=1, classes=3, size_px=64)
    model.bottleneck = TransformerBottleneck(768, heads=12, layers=LAYERS, side=4)
    return model.eval()


def features_by_the_source(w, images):
    """ResNet and transformer written out with the file's own names, NHWC kernels and all."""
    w = {name: torch.from_numpy(array) for name, array in w.items()}

    def conv(x, name, stride=1, padding=0):
        kernel = w[f"{name}/kernel"].permute(3, 2, 0, 1)
        mean = kernel.mean((1, 2, 3), keepdim=True)
        variance = (kernel - mean).square().mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, (kernel - mean) / (variance + 1e-5).sqrt(), stride=stride, padding=padding)

    def group_norm(x, name, groups=32, eps=1e-6):
        return F.group_norm(x, groups, w[f"{name}/scale"].flatten(), w[f"{name}/bias"].flatten(), eps)

    def layer_norm(x, name):
        return F.layer_norm(x, (768,), w[f"{name}/scale"], w[f"{name}/bias"], 1e-6)

    x = F.relu(group_norm(conv(images.expand(-1, 3, -1, -1), "conv_root", 2, 3), "gn_root"))
    x = F.max_pool2d(x, 3, 2)
    for stage, (_, planes, units, stride) in enumerate(STAGES, start=1):
        for unit in range(1, units + 1):
            name = f"block{stage}/unit{unit}"
            step = stride if unit == 1 else 1
            y = F.relu(group_norm(conv(x, f"{name}/conv1"), f"{name}/gn1"))
            y = F.relu(group_norm(conv(y, f"{name}/conv2", step, 1), f"{name}/gn2"))
            y = group_norm(conv(y, f"{name}/conv3"), f"{name}/gn3")
            if unit == 1:
                x = group_norm(conv(x, f"{name}/conv_proj", step), f"{name}/gn_proj", 4 * planes, 1e-5)
            x = F.relu(x + y)
    B, _, h, _ = x.shape
    x = torch.einsum("bchw,cd->bhwd", x, w["embedding/kernel"][0, 0]) + w["embedding/bias"]
    x = x.reshape(B, h * h, 768) + w["Transformer/posembed_input/pos_embedding"][:, 1:]
    for i in range(LAYERS):
        name = f"Transformer/encoderblock_{i}"
        heads = f"{name}/MultiHeadDotProductAttention_1"
        y = layer_norm(x, f"{name}/LayerNorm_0")
        q, k, v = (
            torch.einsum("bnc,chd->bhnd", y, w[f"{heads}/{part}/kernel"]) + w[f"{heads}/{part}/bias"][:, None]
            for part in ("query", "key", "value")
        )
        seen = torch.softmax(q @ k.mT / 8, dim=-1) @ v
        x = x + torch.einsum("bhnd,hdc->bnc", seen, w[f"{heads}/out/kernel"]) + w[f"{heads}/out/bias"]
        y = layer_norm(x, f"{name}/LayerNorm_2")
        y = F.gelu(y @ w[f"{name}/MlpBlock_3/Dense_0/kernel"] + w[f"{name}/MlpBlock_3/Dense_0/bias"])
        x = x + y @ w[f"{name}/MlpBlock_3/Dense_1/kernel"] + w[f"{name}/MlpBlock_3/Dense_1/bias"]
    x = layer_norm(x, "Transformer/encoder_norm")
    return x.mT.reshape(B, 768, h, h)


def as_timm(flax):
    """The same weights as timm's safetensors has them."""
    renamed = {}
    for name, array in flax.items():
        tensor = torch.from_numpy(array)
        if name.endswith("kernel") and tensor.ndim == 4:
            tensor = tensor.permute(3, 2, 0, 1)
        elif "/out/kernel" in name:
            tensor = tensor.reshape(768, 768).T
        elif name.endswith("kernel"):
            tensor = tensor.reshape(tensor.shape[0], -1).T
        elif "gn" in name or "Attention" in name:
            tensor = tensor.flatten()
        place, kind = name.rsplit("/", 1) if "/" in name else (name, "")
        kind = {"kernel": "weight", "scale": "weight"}.get(kind, kind)
        parts = place.split("/")
        if parts[0] == "conv_root":
            place = "patch_embed.backbone.stem.conv"
        elif parts[0] == "gn_root":
            place = "patch_embed.backbone.stem.norm"
        elif parts[0].startswith("block"):
            stage, unit = int(parts[0][5:]) - 1, int(parts[1][4:]) - 1
            layer = {"conv_proj": "downsample.conv", "gn_proj": "downsample.norm"}.get(
                parts[2], parts[2].replace("gn", "norm")
            )
            place = f"patch_embed.backbone.stages.{stage}.blocks.{unit}.{layer}"
        elif parts[0] == "embedding":
            place = "patch_embed.proj"
        elif len(parts) > 1 and parts[1].startswith("encoderblock"):
            inner = {
                "LayerNorm_0": "norm1",
                "LayerNorm_2": "norm2",
                "MlpBlock_3/Dense_0": "mlp.fc1",
                "MlpBlock_3/Dense_1": "mlp.fc2",
                "MultiHeadDotProductAttention_1/out": "attn.proj",
            }
            place = f"blocks.{parts[1][13:]}.{inner.get('/'.join(parts[2:]), '/'.join(parts[2:]))}"
        elif parts[-1] == "encoder_norm":
            place = "norm"
        elif kind == "pos_embedding":
            place, kind = "pos_embed", ""
        elif name == "cls":
            place = "cls_token"
        elif parts[0] == "pre_logits":
            place = "pre_logits.fc"
        renamed[f"{place}.{kind}".rstrip(".")] = tensor
    for i in range(LAYERS):
        for kind in ("weight", "bias"):
            heads = [f"blocks.{i}.MultiHeadDotProductAttention_1/{part}.{kind}" for part in ("query", "key", "value")]
            renamed[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat([renamed.pop(name) for name in heads])
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


@pytest.fixture(params=["npz", "safetensors"])
def stored(request, tmp_path, flax):
    """A file in one of the two formats, and a way to change what is in it."""

    def write(**changes):
        path = tmp_path / f"R50+ViT-B_16.{request.param}"
        if request.param == "npz":
            weights = flax | changes
            np.savez(path, **{name: array for name, array in weights.items() if array is not None})
        else:
            weights = as_timm(flax) | {name: None if a is None else torch.from_numpy(a) for name, a in changes.items()}
            save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, path)
        return path

    return write


def test_the_model_computes_what_the_source_does(model, stored, flax):
    load_imagenet_weights(model, stored())
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        ours = model.trace(images).latent.features
        torch.testing.assert_close(ours, features_by_the_source(flax, images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(2, 6), (14, 14), (20, 14), (1, 3), (4, 4)])
def test_positions_of_another_grid_are_interpolated_as_by_transunets_authors(model, stored, flax, size):
    """Whose `load_from` has: ndimage.zoom(posemb_grid, (gs_new / gs_old, gs_new / gs_old, 1), order=1)."""
    model.bottleneck.position = torch.nn.Parameter(torch.zeros(1, 768, *size))
    load_imagenet_weights(model, stored())
    grid = flax["Transformer/posembed_input/pos_embedding"][0, 1:].reshape(4, 4, 768)
    expected = ndimage.zoom(grid, (size[0] / 4, size[1] / 4, 1), order=1)
    np.testing.assert_allclose(model.bottleneck.position.data[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


NAMES = {"npz": ("gn_root/bias", "Transformer/posembed_input/pos_embedding"), "safetensors": ("norm.bias", "pos_embed")}


@pytest.mark.parametrize("what", ["missing", "left over", "shape", "positions"])
def test_a_file_that_does_not_fit_changes_nothing(model, stored, what, request):
    kind = request.node.callspec.params["stored"]
    layer, position = NAMES[kind]
    change, message = {
        "missing": ({layer: None}, f"missing: {layer}; left over: nothing"),
        "left over": ({"mystery": np.zeros(3, np.float32)}, "missing: nothing; left over: mystery"),
        "shape": ({layer: np.zeros(7, np.float32)}, r"norm.bias must be of shape \(\d+,\), got \[\(7,\)\]"),
        "positions": ({position: np.zeros((1, 8, 768), np.float32)}, r"a square grid of 768 .*, got \(1, 8, 768\)"),
    }[what]
    path = stored(**change)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(CheckpointError, match=message) as error:
        load_imagenet_weights(model, path)
    assert str(path) in str(error.value)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_pickle_never_runs(model, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"conv_root/kernel": np.array([object()], dtype=object)})
    with pytest.raises(CheckpointError, match="cannot be read: Object arrays cannot be loaded"):
        load_imagenet_weights(model, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.npz", b"no zip", "cannot be read"),
        ("weights.npz", b"", "cannot be read"),
        ("weights.safetensors", b"short", "cannot be read"),
        ("weights.pth", b"", "must be an .npz of the ViT repository or .safetensors of timm"),
    ],
)
def test_a_file_of_another_kind_is_refused(model, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_imagenet_weights(model, path)


def test_weights_of_coloured_images_are_not_for_two_channels(tmp_path):
    with torch.device("meta"):
        model = TransUNet(channels=2, classes=3, size_px=64)
    with pytest.raises(ConfigError, match="for 1 or 3 image channels, got 2; name as many by `channel`"):
        load_imagenet_weights(model, tmp_path / "R50+ViT-B_16.npz")
