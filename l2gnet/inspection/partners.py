"""Whose answer is heard in the place of one's own."""

from collections.abc import Sequence

import numpy as np

from l2gnet.data.slices import SliceSet
from l2gnet.shapes import Int64


def of_other_patients(slices: SliceSet, patients: Sequence[str], seed: int) -> Int64[np.ndarray, " S"]:
    """For each slice one of another patient's."""
    owner = np.array(patients)[slices.case]
    random = np.random.default_rng(seed)
    partners = np.empty(len(slices), dtype=np.int64)
    for patient in np.unique(owner):
        own = owner == patient
        partners[own] = random.choice(np.flatnonzero(~own), own.sum())
    return partners
