"""Orders of a plan's rows and columns that let the eye see what it does."""

from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist

from l2gnet.shapes import Float, Int64

Order = Literal["usage", "label", "clustering"]


def plan_order(
    plan: Float[np.ndarray, "K R"], by: Order, labels: Int64[np.ndarray, " K"] | None = None
) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " R"]]:
    """The order of rows and of columns, each a permutation of indices.

    - `usage`: rows by their mass, the largest first; each column stands where the row that gives it most does.
    - `label`: the same within each label, of the rows, in their order.
    - `clustering`: rows that go to the same columns lie together, and columns that receive from the same rows
      (average linkage on Euclidean distances, leaves in their optimal order; Bar-Joseph et al. 2001).

    Raises:
        ValueError: `label` without `labels`.
    """
    mass = plan.sum(axis=1)
    if by == "clustering":
        return _leaves(_shares(plan)), _leaves(_shares(plan.T))
    if by == "usage":
        rows = np.argsort(-mass, kind="stable")
    elif labels is None:
        raise ValueError("an order by label needs the labels of the rows, got none; choose usage or clustering")
    else:
        rows = np.lexsort((-mass, labels))
    place = np.empty(len(rows), dtype=np.int64)
    place[rows] = np.arange(len(rows))
    giver = plan.argmax(axis=0)
    return rows, np.lexsort((-plan.max(axis=0), place[giver]))


def _shares(plan: Float[np.ndarray, "K R"]) -> Float[np.ndarray, "K R"]:
    return plan / plan.sum(axis=1, keepdims=True).clip(1e-30)


def _leaves(profiles: Float[np.ndarray, "n m"]) -> Int64[np.ndarray, " n"]:
    if len(profiles) < 3:
        return np.arange(len(profiles))
    distances = pdist(profiles)
    return leaves_list(optimal_leaf_ordering(linkage(distances, "average"), distances)).astype(np.int64)
