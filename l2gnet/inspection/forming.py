"""How a codebook formed: a few epochs of its codes and their use, which a training leaves in its run folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from l2gnet.shapes import Float, Int64

FORMING_FILE = "codebook.npz"  # epochs (E), vectors (E K d) in half precision, uses (E K)


@dataclass(frozen=True, eq=False)
class Forming:
    """Codes at several epochs, on one map for all, and how many tokens of the epoch took each of them.

    The map is that of the last epoch's codes, of whose variance it shows `variance`.
    """

    epochs: Int64[np.ndarray, " E"]
    places: Float[np.ndarray, "E K 2"]
    uses: Int64[np.ndarray, "E K"]
    variance: float


def read_forming(run_dir: str | Path) -> Forming | None:
    """How the codebook of a run formed; None where its model has none, or it was trained before this was kept."""
    path = Path(run_dir) / FORMING_FILE
    if not path.exists():
        return None
    with np.load(path) as kept:
        epochs, vectors, uses = kept["epochs"], kept["vectors"].astype(np.float64), kept["uses"]
    centre, axes, variance = plane_of(vectors[-1])
    return Forming(epochs, (vectors - centre) @ axes, uses, variance)


def plane_of(
    vectors: Float[np.ndarray, "K d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d 2"], float]:
    """The middle of a codebook, the axes of its first two principal components, and the variance that they show.

    The sign of each axis is such that its largest entry is positive: the same codebook gives the same map.
    """
    centre = vectors.mean(axis=0)
    _, singular, directions = np.linalg.svd(vectors - centre, full_matrices=False)
    axes = np.zeros((vectors.shape[1], 2))
    kept = min(2, len(singular))
    axes[:, :kept] = directions[:kept].T
    scores = (vectors - centre) @ axes
    axes *= np.where(scores[np.abs(scores).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    variance = np.square(singular)
    return centre, axes, float(variance[:2].sum() / max(variance.sum(), np.finfo(float).tiny))
