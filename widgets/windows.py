"""Windows of intensities to look at a scan in."""

import numpy as np

from l2gnet.shapes import Num

CT_WINDOWS = {  # HU, low and high
    "CT soft tissue": (-160, 240),
    "CT abdomen": (-125, 275),
    "CT liver": (-20, 130),
    "CT lung": (-1350, 150),
    "CT bone": (-450, 1050),
    "CT brain": (0, 80),
}


def presets(array: Num[np.ndarray, "*axes"]) -> dict[str, tuple[float, float]]:
    """Windows to choose from, the first to begin with; percentiles are those of at most about a million voxels."""
    sample = array.reshape(-1)[:: max(1, array.size // 2**20)].astype(np.float64)
    least, most = float(array.min()), float(array.max())
    if least < -200:  # only CT knows air, far below zero
        return CT_WINDOWS | {"full range": (least, most)}
    low, high = np.percentile(sample, (0.5, 99.5))
    body = sample[sample >= low + (high - low) / 10]  # without the air around it, however much there is
    middle, bright = np.percentile(body, (50, 99.5)).tolist() if len(body) else (least, most)
    windows = {
        "body": (float(low), bright),
        "dark tissue": (float(low), middle),
        "bright tissue": (middle, most),
        "full range": (least, most),
    }
    # Of an image that is nearly empty some have no width, and a drag would never give them one.
    return {name: (low, high) if low < high else (least, most) for name, (low, high) in windows.items()}
