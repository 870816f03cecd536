import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2gnet.inspection.plan_order import plan_order


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8), st.sampled_from(["usage", "label", "clustering"]))
def test_every_order_is_a_permutation(seed, K, R, by):
    random = np.random.default_rng(seed)
    rows, columns = plan_order(random.random((K, R)), by, random.integers(0, 3, K))
    assert sorted(rows) == list(range(K))
    assert sorted(columns) == list(range(R))


def test_by_usage_the_heaviest_row_comes_first_and_columns_follow_their_givers():
    plan = np.array([[0.1, 0.0, 0.0], [0.0, 0.3, 0.2], [0.3, 0.0, 0.1]])
    rows, columns = plan_order(plan, "usage")
    assert rows.tolist() == [1, 2, 0]
    assert columns.tolist() == [1, 2, 0]


def test_by_label_rows_of_one_structure_lie_together():
    plan = np.diag([0.1, 0.2, 0.3, 0.4])
    labels = np.array([1, 0, 1, 0])
    rows, columns = plan_order(plan, "label", labels)
    assert rows.tolist() == [3, 1, 2, 0]
    assert columns.tolist() == [3, 1, 2, 0]
    with pytest.raises(ValueError, match="needs the labels of the rows"):
        plan_order(plan, "label")


def test_clustering_finds_blocks_again():
    blocks = np.kron(np.eye(3), np.ones((4, 2))) + 0.01
    shuffled_rows, shuffled_columns = np.random.default_rng(0).permutation(12), np.random.default_rng(1).permutation(6)
    plan = blocks[shuffled_rows][:, shuffled_columns]
    rows, columns = plan_order(plan, "clustering")
    block_of_row = shuffled_rows[rows] // 4
    block_of_column = shuffled_columns[columns] // 2
    assert (np.diff(block_of_row) != 0).sum() == 2
    assert (np.diff(block_of_column) != 0).sum() == 2
