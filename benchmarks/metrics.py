"""Dice, HD95, ASSD and NSD of eight organs: `l2gnet.evaluation.metrics` against MONAI, on synthetic ellipsoids.

Run `python benchmarks/metrics.py`. The two are timed in turn, the medians are shown, and the answers must agree.
"""

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from monai.networks import one_hot

from l2gnet.evaluation.metrics import score_case

SPACING_MM = (3.0, 0.78, 0.78)
TOLERANCE_MM = 2.0
CLASSES = (
    "background",
    "liver",
    "stomach",
    "spleen",
    "left kidney",
    "right kidney",
    "pancreas",
    "aorta",
    "gallbladder",
)
ORGANS = [  # centre and half-axes, as shares of the volume; later ones lie on top
    ((0.54, 0.39, 0.27), (0.40, 0.21, 0.20)),
    ((0.64, 0.31, 0.64), (0.27, 0.12, 0.12)),
    ((0.61, 0.49, 0.78), (0.27, 0.12, 0.09)),
    ((0.47, 0.64, 0.68), (0.17, 0.07, 0.07)),
    ((0.47, 0.64, 0.31), (0.17, 0.07, 0.07)),
    ((0.47, 0.51, 0.53), (0.10, 0.04, 0.14)),
    ((0.50, 0.62, 0.50), (0.47, 0.02, 0.02)),
    ((0.40, 0.35, 0.29), (0.08, 0.05, 0.04)),
]


def abdomen(shape: tuple[int, int, int]) -> np.ndarray:
    volume = np.zeros(shape, np.uint8)
    axes = np.ogrid[tuple(slice(0, 1, side * 1j) for side in shape)]
    for label, (centre, half) in enumerate(ORGANS, start=1):
        volume[sum(((x - c) / h) ** 2 for x, c, h in zip(axes, centre, half, strict=True)) <= 1] = label
    return volume


def ours(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    scores = score_case(prediction, truth, CLASSES, SPACING_MM, nsd_tolerance_mm=TOLERANCE_MM)
    return np.array([(score.dice, score.hd95_mm, score.assd_mm, score.nsd) for score in scores])


def monai(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    masks = [one_hot(torch.from_numpy(v)[None, None], len(CLASSES)) for v in (prediction, truth)]
    scores = [
        compute_dice(*masks, include_background=False),
        compute_hausdorff_distance(*masks, percentile=95, spacing=SPACING_MM),
        compute_average_surface_distance(*masks, symmetric=True, spacing=SPACING_MM),
        compute_surface_dice(*masks, [TOLERANCE_MM] * len(ORGANS), spacing=SPACING_MM),
    ]
    return torch.cat(scores).numpy().T


def seconds(score: Callable[[np.ndarray, np.ndarray], np.ndarray], *pair: np.ndarray) -> float:
    start = time.perf_counter()
    score(*pair)
    return time.perf_counter() - start


def main() -> None:
    warnings.simplefilter("ignore")  # MONAI warns of its own deprecated calls
    torch.set_num_threads(1)
    print(f"{'volume':>14} {'prediction':>10} {'ours (s)':>9} {'MONAI (s)':>9} {'ratio':>6}")
    for shape, repeats, against_monai in (
        ((40, 128, 128), 9, True),
        ((74, 256, 256), 5, True),
        ((148, 512, 512), 5, False),
    ):
        truth = abdomen(shape)
        stray = np.random.default_rng(0).random(shape) < 0.001
        shifted = np.roll(truth, (1, 2, 2), (0, 1, 2))
        for kind, prediction in (("shifted", shifted), ("noisy", np.where(stray, np.uint8(1), shifted))):
            pair = (prediction, truth)
            if against_monai:
                np.testing.assert_allclose(ours(*pair), monai(*pair), rtol=1e-5)
            times = [(seconds(ours, *pair), seconds(monai, *pair) if against_monai else np.nan) for _ in range(repeats)]
            own, other = np.median(times, axis=0)
            peer = f"{other:9.3f} {other / own:6.1f}" if against_monai else f"{'not run':>9} {'':6}"
            print(f"{'x'.join(map(str, shape)):>14} {kind:>10} {own:9.3f} {peer}")


if __name__ == "__main__":
    main()
