"""L2GNet as a diagram whose boxes hold the tensors of one image, and open."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from l2gnet.widgets.crisp import GREY, as_image
from PIL import Image
from torch import Tensor, nn, no_grad

from l2gnet.colours import COLOURS
from l2gnet.inspection.changed_parts import Plans, evaluating, plans_of
from l2gnet.inspection.forming import plane_of
from l2gnet.inspection.image_transport import codebook_and_mapper
from l2gnet.inspection.plan_order import plan_order
from l2gnet.models.backbone import SegmentationUNet
from l2gnet.shapes import Float, Num, UInt8

_WIDTH = 1000
_TOP, _SMALL = 84, 82  # of the boxes on the way down and up: where they are, and their side, in pixels
_BOTTOM, _LARGE = 258, 128  # and of those of the bottleneck
_MANY = 72**2  # pixels, beyond which a picture is WebP
_TILES = 32  # channels of a tensor that are shown large
_OPENED = (760, 380)  # pixels that a picture may fill when its box is open
_BACKBONE = "l2gnet/models/backbone.py"
_SAID = {  # of feature maps
    "first": ("What two convolutions make of the image, at full resolution; a tile a channel.", _BACKBONE),
    "down": ("What two convolutions make of the level before, halved; a tile a channel.", _BACKBONE),
    "up": (
        "What comes from below, doubled, and what was kept on the way down, convolved; a tile a channel.",
        _BACKBONE,
    ),
    "deepest": ("The deepest features, where one pixel stands for many; a tile a channel.", _BACKBONE),
    "related": ("A convolution of what each pixel is and what it hears; a tile a channel.", "l2gnet/models/l2gnet.py"),
}
_SENT = "How much of each code in use (a row) goes to each reference (a column); a tile a head."
_GATHERED = "What each reference (a row) has gathered, an average of the codes sent to it; a tile a head."
_RECEIVED = "How much each {} (a row) takes from the slot of each reference (a column); a tile a head."


@dataclass(frozen=True)
class _Held:
    """What a box holds: its name, its shape in numbers and in letters, what it is, which file makes it, and pictures of
    it, small and whole."""

    name: str
    shape: str
    letters: str
    words: str
    file: str
    small: UInt8[np.ndarray, "h w 3"]
    whole: UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    side: float
    held: _Held

    @property
    def middle(self) -> float:
        return self.x + self.side / 2

    def svg(self) -> str:
        return (
            f'<text x="{self.middle:.0f}" y="{self.y - 6}">{self.held.name}</text>'
            f'<image x="{self.x:.0f}" y="{self.y}" width="{self.side}" height="{self.side}" preserveAspectRatio="none" '
            f'style="image-rendering:pixelated" href="{_embedded(self.held.small, 128)}"/>'
            f'<text class="s" x="{self.middle:.0f}" y="{self.y + self.side + 15}">{self.held.shape}</text>'
        )

    def opening(self) -> str:
        """The box as a place to click in the diagram, and what it then shows below.

        All lengths are shares of the width, so that the place stays where it is when the diagram grows below.
        """
        held, share = self.held, 100 / _WIDTH
        place = (
            f"position:absolute;display:block;top:0;left:{self.x * share:.1f}%;width:{self.side * share:.1f}%;height:0;"
            f"margin-top:{self.y * share:.1f}%;padding-bottom:{self.side * share:.1f}%;cursor:pointer;overflow:hidden;"
            "color:transparent"
        )
        size = held.whole.shape[1], held.whole.shape[0]
        scale = min(room / pixels for room, pixels in zip(_OPENED, size, strict=True))
        width, height = (round(scale * pixels) for pixels in size)
        picture = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><image width="{width}" '
            f'height="{height}" preserveAspectRatio="none" style="image-rendering:pixelated" '
            f'href="{_embedded(held.whole, _OPENED[0])}"/></svg>'
        )
        return (
            f'<details name="architecture"><summary title="{escape(held.name)}: open" style="{place}">'
            f"{escape(held.name)}</summary><p><b>{escape(held.name)}</b>, {held.letters} = {held.shape}. {held.words} "
            f"<code>{held.file}</code></p>{as_image(picture, held.name)}</details>"
        )


class Architecture:
    """A diagram of an L2GNet, from an image to its prediction: each box shows the tensor that this image has there.

    A click on a box, or Enter where it has the focus, opens it below: the whole tensor, with its shape in letters, what
    it is, and which file makes it. That is HTML alone, without a script, and so works in saved notebooks and pages.
    Feature maps show the length of each pixel's vector, codes have their colours by `code_colours`; plans and slots are
    those of the first head, with rows and columns that are alike beside each other.

    Args:
        model: an L2GNet.
        image: what it is given, from 0 to 1.
        prediction: the labels that it finds there.

    Raises:
        ValueError: the model has no mapper that transports codes, or not at its deepest level.
    """

    def __init__(self, model: SegmentationUNet, image: Float[Tensor, "1 C H W"], prediction: UInt8[np.ndarray, "H W"]):
        down, up, bottom = _run(model, image)
        first, picture = image[0], _heat(image[0, 0].numpy(), "gray")
        words = "The slice on the grid that the model sees, black at 0 and white at 1."
        above = [_Held("image", _shape(first), "C × H × W", words, "l2gnet/data/resampling.py", picture, picture)]
        above += [_features(f"level {i}", tensor, i, "down" if i else "first") for i, tensor in enumerate(down)]
        above += [_features(f"level {i}", tensor, i, "up") for i, tensor in reversed(list(enumerate(up)))]
        words, picture = "For each pixel the class with the highest score; the background is grey.", _labels(prediction)
        above += [_Held("labels", _shape(prediction), "H × W", words, "l2gnet/data/outputs.py", picture, picture)]
        self._above, self._bottom = (
            [_Box(i * (_WIDTH - side) / (len(row) - 1), y, side, each) for i, each in enumerate(row)]
            for row, y, side in ((above, _TOP, _SMALL), (bottom, _BOTTOM, _LARGE))
        )

    def svg(self) -> str:
        """The diagram as it is before anybody opens a box."""
        height = _BOTTOM + _LARGE + 22
        boxes = "".join(box.svg() for box in (*self._above, *self._bottom))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}">'
            f"<style>text{{font:14px system-ui,sans-serif;fill:{GREY};text-anchor:middle}}"
            ".s{font-size:12.5px}</style>"
            f'<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>'
            f"{''.join(_arrows(self._above, self._bottom))}{boxes}</svg>"
        )

    def __repr__(self) -> str:
        return f"Architecture: {len(self._above)} boxes above, {len(self._bottom)} below"

    def _repr_html_(self) -> str:
        diagram = as_image(self.svg(), "L2GNet with the tensors of one slice in its boxes", width="100%")
        boxes = "".join(box.opening() for box in (*self._above, *self._bottom))
        return f'<div style="position:relative;max-width:{_WIDTH}px">{diagram}{boxes}</div>'


def code_colours(vectors: Float[np.ndarray, "K d"]) -> Float[np.ndarray, "K 3"]:
    """A colour for each of these codes, by its rank along their first principal axis: those that are alike look so."""
    centre, axes, _ = plane_of(vectors)
    ranks = ((vectors - centre) @ axes[:, 0]).argsort().argsort()
    return matplotlib.colormaps["rainbow"](ranks / max(len(ranks) - 1, 1))[:, :3]  # no end of it is nearly black


def _run(model: SegmentationUNet, image: Float[Tensor, "1 C H W"]) -> tuple[list[Tensor], list[Tensor], list[_Held]]:
    """What each level sees on the way down, on the way up (finest first), and what the bottleneck makes of it."""
    seen: dict[nn.Module, Any] = {}
    codebook, mapper = codebook_and_mapper(model)
    depth = len(model.encoder)
    if model.level != depth:
        raise ValueError(f"tokens must lie at the deepest level, {depth}, got {model.level}; show another model")
    blocks = [model.stem, *model.encoder, *model.decoder, mapper]
    handles = [block.register_forward_hook(lambda block, _, given: seen.update({block: given})) for block in blocks]
    try:
        with no_grad(), evaluating(model):
            trace = model.trace(image.to(next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    *down, features = (seen[block].cpu() for block in (model.stem, *model.encoder))
    up = [seen[block][0].cpu() for block in reversed(model.decoder)]
    latent, plans = trace.latent, plans_of(model, trace)
    assert latent.codes is not None
    assert plans is not None
    h, w = features.shape[2:]
    used, code_of_pixel = np.unique(latent.codes[0].cpu().numpy(), return_inverse=True)
    colours = code_colours(codebook.vectors[used].cpu().numpy())[code_of_pixel.reshape(h, w)]
    words = "Each pixel's nearest vector of the codebook, like codes in like colours: all that a pixel says."
    maker, picture = "l2gnet/method/codebook.py", _bytes(colours)
    bottom = [
        _features("features", features, len(down) - 1, "deepest"),
        _Held(f"codes: {len(used)} in use", f"{h} × {w}", "h × w", words, maker, picture, picture),
        *_plans(plans, seen[mapper].slots),
        _features("back to features", latent.features.cpu(), len(down) - 1, "related"),
    ]
    return down, up, bottom


def _features(name: str, tensor: Float[Tensor, "1 C h w"], halvings: int, way: str) -> _Held:
    """A feature map: small the length of each pixel's vector, large its channels."""
    words, file = _SAID[way]
    letters = "C × h × w" if way in ("deepest", "related") else _letters(halvings)
    small = _heat(tensor[0].norm(dim=0).numpy(), "magma")
    channels = tensor[0, :_TILES].numpy()
    if len(tensor[0]) > _TILES:
        words += f" The first {_TILES} channels."
    low, high = np.quantile(channels, (0.01, 0.99))  # else a few pixels would make the rest dark
    columns = next(n for n in range(1, len(channels) + 1) if len(channels) % n == 0 and n * n >= 2 * len(channels))
    whole = _heat(_tiled(channels.clip(low, high), columns), "magma")
    return _Held(name, _shape(tensor[0]), letters, words, file, small, whole)


def _plans(plans: Plans, slots: Float[Tensor, "h 1 R _"]) -> list[_Held]:
    """The plan that sends, the slots that it fills, and the plan that receives: of the first head, and of all."""
    received = plans.receiving if plans.hearing is None else plans.hearing  # by row or by token
    send, receive = (plan[0].cpu().numpy() for plan in (plans.sending, received))
    rows, columns = plan_order(send[0], "clustering")
    hearers = rows if plans.hearing is None else plan_order(receive[0], "clustering")[0]
    send, receive = send[:, rows][:, :, columns], receive[:, hearers][:, :, columns]
    gathered = slots[:, 0].cpu().numpy()[:, columns]
    receivers, who, many = (
        ("codes", "code in use", "codes in use") if plans.hearing is None else ("tokens", "token", "N")
    )
    held = [
        ("plan T: codes send", send, "heads × codes in use × R", _SENT, "l2gnet/method/transport.py"),
        ("slots", gathered, "heads × R × d/heads", _GATHERED, "l2gnet/method/mapper.py"),
        (
            f"plan S: {receivers} receive",
            receive,
            f"heads × {many} × R",
            _RECEIVED.format(who),
            "l2gnet/method/transport.py",
        ),
    ]
    return [
        _Held(name, _shape(of_heads), letters, words, file, _heat(of_heads[0]), _heat(_tiled(of_heads, len(of_heads))))
        for name, of_heads, letters, words, file in held
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
        start, end, top = above[i].middle, above[-1 - i].middle, 20 + 16 * (i - 1)
        yield f'<path d="M{start:.0f} {_TOP - 20}V{top}H{end:.0f}V{_TOP - 20}" stroke-dasharray="4 4" {style}/>'
    yield f'<text x="{_WIDTH / 2}" y="13">each level is kept for the way up</text>'


def _shape(array: Num[Tensor, "..."] | Num[np.ndarray, "..."]) -> str:
    return " × ".join(map(str, array.shape))


def _heat(values: Num[np.ndarray, "h w"], colours: str = "viridis") -> UInt8[np.ndarray, "h w 3"]:
    low, high = values.min(), values.max()
    return _bytes(matplotlib.colormaps[colours]((values - low) / max(high - low, 1e-30))[..., :3])


def _labels(labels: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    palette = [matplotlib.colors.to_rgb("#404040"), *map(matplotlib.colors.to_rgb, COLOURS)]
    return _bytes(np.array(palette)[np.where(labels > 0, (labels - 1) % len(COLOURS) + 1, 0)])


def _bytes(colours: Num[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return (255 * colours).round().astype(np.uint8)


def _letters(halvings: int) -> str:
    part = f"/{2**halvings}" if halvings else ""
    return f"C × H{part} × W{part}"


def _tiled(parts: Num[np.ndarray, "n h w"], columns: int) -> Num[np.ndarray, "_ _"]:
    """Parts side by side, with the least value between them."""
    n, h, w = parts.shape
    gap = max(1, max(h, w) // 24)
    framed = np.pad(parts, [(0, 0), (0, gap), (0, gap)], constant_values=parts.min())
    return np.block([list(line) for line in framed.reshape(n // columns, columns, h + gap, w + gap)])[:-gap, :-gap]


def _embedded(picture: UInt8[np.ndarray, "h w 3"], most: int) -> str:
    """A picture as a data address, of at most so many pixels along each side: PNG where each of them counts, WebP where
    they are many."""
    image, stream = Image.fromarray(picture), io.BytesIO()
    if max(image.size) > most:  # each side by itself, as a plan has many rows and few columns
        image = image.resize([min(side, most) for side in image.size])
    kind = "png" if image.width * image.height <= _MANY else "webp"
    if kind == "png":
        image.quantize(64).save(stream, kind, optimize=True)
    else:
        image.save(stream, kind, quality=45, method=6)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
