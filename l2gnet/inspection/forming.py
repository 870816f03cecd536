"""How a codebook formed: a few epochs of its codes and their use, which a training leaves in its run folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from l2gnet.inspection.code_atlas import plane_of
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
