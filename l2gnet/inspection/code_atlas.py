"""What the codes of a codebook stand for: how often, where and on which structure each of them fires."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from l2gnet.data.slices import SliceSet
from l2gnet.data.volume import IGNORED
from l2gnet.inspection.forming import plane_of
from l2gnet.method.codebook import CodebookUsage, codebook_usage
from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.inference import codes_of_slices
from l2gnet.shapes import Float, Int64, Num, UInt8


@dataclass(frozen=True, eq=False)
class CodeAtlas:
    """Slices with the code of each of their bottleneck pixels, and what can be counted from that.

    A bottleneck pixel stands for the cell of H/h x W/w image pixels that it lies over. Methods that take `among` count
    over these slices only: an image, a volume, or (by default) everything.

    Args:
        images: the slices of one volume or of many.
        codes: code index of each bottleneck pixel.
        vectors: the codebook.
        labels: what a pixel is; without it all is background.
        case: the volume that each slice belongs to; by default all are of one.

    Raises:
        ValueError: the arrays do not belong together, or an index is none of the codebook.
    """

    images: Num[np.ndarray, "S H W"]
    codes: Int64[np.ndarray, "S h w"]
    vectors: Float[np.ndarray, "K d"]
    labels: UInt8[np.ndarray, "S H W"] | None = None
    case: Int64[np.ndarray, " S"] | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.codes):
            raise ValueError(
                f"each slice needs codes, got {len(self.images)} slices and {len(self.codes)} maps of codes"
            )
        if self.labels is not None and self.labels.shape != self.images.shape:
            raise ValueError(f"labels must have the images' shape {self.images.shape}, got {self.labels.shape}")
        if self.case is not None and self.case.shape != (len(self.images),):
            raise ValueError(f"case must name a volume for each of {len(self.images)} slices, got {self.case.shape}")
        if self.codes.size == 0:
            raise ValueError("an atlas needs at least one slice with codes, got none")
        low, high, K = int(self.codes.min()), int(self.codes.max()), len(self.vectors)
        if low < 0 or high >= K:
            raise ValueError(f"code indices must lie in 0..{K - 1}, the codebook's rows, got {low}..{high}")

    @classmethod
    def of_model(cls, model: SegmentationModel, slices: SliceSet) -> "CodeAtlas":
        """The codes that a model gives to slices of its grid, with their labels; the images are the first channel.

        Raises:
            ValueError: the model has no codebook.
        """
        codes = codes_of_slices(model, slices.images).numpy()
        assert model.codebook is not None  # or there had been no codes
        vectors = model.codebook.vectors.detach().cpu().numpy()
        return cls(slices.images[:, 0], codes, vectors, slices.labels, slices.case)

    def slices_of(self, index: int) -> Int64[np.ndarray, " D"]:
        """All slices of the volume that slice `index` belongs to."""
        return np.arange(len(self.images)) if self.case is None else np.flatnonzero(self.case == self.case[index])

    def usage(self, among: Int64[np.ndarray, " D"] | None = None) -> CodebookUsage:
        """How often each code fires."""
        codes = self.codes if among is None else self.codes[among]
        return codebook_usage([torch.from_numpy(codes)], len(self.vectors))

    def frequency(
        self, code: int | Sequence[int], among: Int64[np.ndarray, " D"] | None = None
    ) -> Float[np.ndarray, "h w"]:
        """The share of the slices in which `code`, or any of several, fires at each bottleneck pixel."""
        return np.mean(np.isin(self.codes if among is None else self.codes[among], code), axis=0)

    @cached_property
    def label_counts(self) -> Int64[np.ndarray, "K L"]:
        """How many image pixels of each label lie under each code, over all slices."""
        labels = np.zeros(self.images.shape, np.uint8) if self.labels is None else self.labels
        return count_labels(self.codes, labels, len(self.vectors))

    @property
    def label_shares(self) -> Float[np.ndarray, "K L"]:
        """Of the image pixels under each code, the share of each label; zeros for a code that never fires."""
        return self.label_counts / self.label_counts.sum(axis=1, keepdims=True).clip(1)

    @property
    def purity(self) -> Float[np.ndarray, " K"]:
        """The largest label's share under each code: 1 where it stands for one structure, 0 where it never fires."""
        return self.label_shares.max(axis=1)

    def examples(
        self, code: int | Sequence[int], limit: int, among: Int64[np.ndarray, " D"] | None = None
    ) -> Int64[np.ndarray, "places 3"]:
        """At most `limit` places (slice, row, column) where `code`, or any of several, fires, evenly among all such."""
        among = np.arange(len(self.codes)) if among is None else among
        places = np.argwhere(np.isin(self.codes[among], code))
        places = places[np.linspace(0, len(places) - 1, min(limit, len(places))).round().astype(int)]
        places[:, 0] = among[places[:, 0]]
        return places

    def patch(self, place: Int64[np.ndarray, "3"], side_px: int) -> Num[np.ndarray, "side side"]:
        """The image around a bottleneck pixel (slice, row, column), a square; beyond the border it is 0."""
        index, row, column = place
        (_, H, W), (_, h, w) = self.images.shape, self.codes.shape
        top = round((row + 0.5) * H / h - side_px / 2) + side_px
        left = round((column + 0.5) * W / w - side_px / 2) + side_px
        return np.pad(self.images[index], side_px)[top : top + side_px, left : left + side_px]


def count_labels(
    codes: Int64[np.ndarray, "S h w"], labels: UInt8[np.ndarray, "S H W"], size: int
) -> Int64[np.ndarray, "{size} L"]:
    """How many pixels of each label lie under each of `size` codes; those whose label nobody knows do not count."""
    (_, H, W), (_, h, w) = labels.shape, codes.shape
    spread = codes[:, np.arange(H) * h // H][:, :, np.arange(W) * w // W]
    known = labels != IGNORED
    L = int(labels[known].max(initial=0)) + 1
    return np.bincount((spread * L + labels)[known], minlength=size * L).reshape(size, L)


def typical_labels(counts: Int64[np.ndarray, "K L"]) -> Int64[np.ndarray, " K"]:
    """The label that lies under each code most above its share of all pixels: small structures count as large ones do.

    It is 0 for a code that never fires.
    """
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    return (shares / (counts.sum(axis=0) / max(counts.sum(), 1)).clip(1e-30)).argmax(axis=1)


def map_codes(vectors: Float[np.ndarray, "K d"]) -> tuple[Float[np.ndarray, "K 2"], float]:
    """A plane map of a codebook, by principal components, and the share of the variance that it shows."""
    centre, axes, variance = plane_of(vectors)
    return (vectors - centre) @ axes, variance
