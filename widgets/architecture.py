"""L2GNet as a diagram whose boxes hold the tensors of one image."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from l2gnet.widgets.crisp import GREY
from PIL import Image
from torch import Tensor, nn, no_grad

from l2gnet.colours import COLOURS
from l2gnet.inspection.image_transport import codebook_and_mapper
from l2gnet.inspection.plan_order import plan_order
from l2gnet.method.mapper import Mapped
from l2gnet.models.backbone import SegmentationUNet
from l2gnet.shapes import Float, Num, UInt8

_WIDTH = 1000
_TOP, _SMALL = 84, 82  # of the boxes on the way down and up: where they are, and their side, in pixels
_BOTTOM, _LARGE = 256, 128  # and of those of the bottleneck
_MOST = 64  # pixels along a side, beyond which a picture is a JPEG


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    side: float
    name: str
    shape: str
    picture: UInt8[np.ndarray, "h w 3"]

    @property
    def middle(self) -> float:
        return self.x + self.side / 2

    def svg(self) -> str:
        return (
            f'<text x="{self.middle:.0f}" y="{self.y - 6}">{self.name}</text>'
            f'<image x="{self.x:.0f}" y="{self.y}" width="{self.side}" height="{self.side}" preserveAspectRatio="none" '
            f'style="image-rendering:pixelated" href="{_embedded(self.picture)}"/>'
            f'<text class="s" x="{self.middle:.0f}" y="{self.y + self.side + 14}">{self.shape}</text>'
        )


def architecture(model: SegmentationUNet, image: Float[Tensor, "1 C H W"], prediction: UInt8[np.ndarray, "H W"]) -> str:
    """An SVG of an L2GNet, from an image to its prediction: each box shows the tensor that this image has there.

    Feature maps show the length of each pixel's vector, codes a colour each; plans and slots are those of the first
    head, with rows and columns that are alike beside each other.

    Raises:
        ValueError: the model has no mapper that transports codes.
    """
    down, up, bottom = _run(model, image)
    above = [("image", _shape(image[0]), _grey(image[0, 0].numpy()))]
    above += [(f"level {i}", _shape(tensor[0]), _lengths(tensor)) for i, tensor in enumerate(down)]
    above += [(f"level {i}", _shape(tensor[0]), _lengths(tensor)) for i, tensor in reversed(list(enumerate(up)))]
    above += [("labels", _shape(prediction), _labels(prediction))]
    boxes = [
        [_Box(i * (_WIDTH - side) / (len(row) - 1), y, side, *each) for i, each in enumerate(row)]
        for row, y, side in ((above, _TOP, _SMALL), (bottom, _BOTTOM, _LARGE))
    ]
    height = _BOTTOM + _LARGE + 22
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
        f"<style>text{{font:13px system-ui,sans-serif;fill:{GREY};text-anchor:middle}}.s{{font-size:11px}}</style>"
        f'<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>'
        f"{''.join(_arrows(*boxes))}{''.join(box.svg() for row in boxes for box in row)}</svg>"
    )


def _run(
    model: SegmentationUNet, image: Float[Tensor, "1 C H W"]
) -> tuple[list[Tensor], list[Tensor], list[tuple[str, str, UInt8[np.ndarray, "h w 3"]]]]:
    """What each level sees on the way down, on the way up (finest first), and what the bottleneck makes of it."""
    seen: dict[nn.Module, Any] = {}
    (_, mapper), bottleneck = codebook_and_mapper(model), model.bottleneck
    blocks = [model.stem, *model.encoder, *model.decoder, mapper, bottleneck]
    handles = [block.register_forward_hook(lambda block, _, given: seen.update({block: given})) for block in blocks]
    with no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    *down, features = (seen[block] for block in (model.stem, *model.encoder))
    up = [seen[block][0] for block in reversed(model.decoder)]
    mapped, latent = seen[mapper], seen[bottleneck]
    h, w = features.shape[2:]
    codes = np.unique(latent.codes[0].numpy(), return_inverse=True)[1].reshape(h, w)
    colours = matplotlib.colormaps["nipy_spectral"](codes / max(codes.max(), 1))[..., :3]
    bottom = [
        ("features", _shape(features[0]), _lengths(features)),
        (f"codes: {codes.max() + 1} in use", f"{h} × {w}", _bytes(colours)),
        *_plans(mapped),
        ("back to features", _shape(latent.features[0]), _lengths(latent.features)),
    ]
    return down, up, bottom


def _plans(mapped: Mapped) -> list[tuple[str, str, UInt8[np.ndarray, "h w 3"]]]:
    """The plan that sends, the slots that it fills, and the plan that receives, of the first head."""
    send, receive = (plan.plan[0].numpy() for plan in (mapped.transport, mapped.receiving))
    used = send.sum(1) > 0
    rows, columns = plan_order(send[used], "clustering")
    slots = mapped.slots[0, 0].numpy()[columns]
    heads = len(mapped.slots)
    size = f"{used.sum()} × {len(columns)}"
    return [
        ("plan T: codes send", f"{size}, {heads} heads", _heat(send[used][rows][:, columns])),
        ("slots", f"{_shape(slots)}, {heads} heads", _heat(slots)),
        ("plan S: codes receive", f"{size}, {heads} heads", _heat(receive[used][rows][:, columns])),
    ]


def _arrows(above: Sequence[_Box], bottom: Sequence[_Box]) -> Iterator[str]:
    """From each box to the next, down into the bottleneck and up again, and from each level to itself on the way up."""
    style = f'stroke="{GREY}" fill="none" marker-end="url(#tip)"'
    half = len(above) // 2
    for row in (above[:half], above[half:], bottom):
        for box, following in pairwise(row):
            y = box.y + box.side / 2
            yield f'<path d="M{box.x + box.side + 3:.0f} {y}H{following.x - 3:.0f}" {style}/>'
    edge, way, roof = _TOP + _SMALL + 20, _BOTTOM - 34, _BOTTOM - 21
    yield f'<path d="M{above[half - 1].middle:.0f} {edge}V{way}H{bottom[0].middle}V{roof}" {style}/>'
    yield f'<path d="M{bottom[-1].middle} {roof}V{way}H{above[half].middle:.0f}V{edge}" {style}/>'
    for i in range(1, half):
        start, end, top = above[i].middle, above[-1 - i].middle, 14 + 16 * (i - 1)
        yield f'<path d="M{start:.0f} {_TOP - 20}V{top}H{end:.0f}V{_TOP - 20}" stroke-dasharray="4 4" {style}/>'
    yield f'<text x="{_WIDTH / 2}" y="10">each level is kept for the way up</text>'


def _shape(array: Num[Tensor, "..."] | Num[np.ndarray, "..."]) -> str:
    return " × ".join(map(str, array.shape))


def _lengths(tensor: Float[Tensor, "1 C h w"]) -> UInt8[np.ndarray, "_ _ 3"]:
    return _heat(tensor[0].norm(dim=0).numpy(), "magma")


def _heat(values: Num[np.ndarray, "h w"], colours: str = "viridis") -> UInt8[np.ndarray, "h w 3"]:
    low, high = values.min(), values.max()
    return _bytes(matplotlib.colormaps[colours]((values - low) / max(high - low, 1e-30))[..., :3])


def _grey(image: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return _heat(image, "gray")


def _labels(labels: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    palette = [matplotlib.colors.to_rgb("#404040"), *map(matplotlib.colors.to_rgb, COLOURS)]
    return _bytes(np.array(palette)[np.where(labels > 0, (labels - 1) % len(COLOURS) + 1, 0)])


def _bytes(colours: Num[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return (255 * colours).round().astype(np.uint8)


def _embedded(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture as a data address: PNG where each pixel counts, JPEG where there are many."""
    image, stream = Image.fromarray(picture), io.BytesIO()
    many = image.width * image.height > _MOST**2
    if many:
        image.resize((min(image.width, 2 * _MOST), min(image.height, 2 * _MOST))).save(stream, "JPEG", quality=70)
    else:
        image.save(stream, "PNG", optimize=True)
    kind = "jpeg" if many else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
