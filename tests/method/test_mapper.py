import copy

import pytest
import torch

from l2gnet.method.cost import unit_cost
from l2gnet.method.mapper import L2GMapper
from l2gnet.method.transport import ConvergenceWarning, solve_transport

COSTS = ("cosine", "euclidean", "dot")


def tokens(B=2, N=12, d=8, seed=0):
    return torch.randn(B, N, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


@pytest.mark.parametrize("heads", [1, 4])
def test_the_only_parameters_are_the_references(heads):
    mapper = L2GMapper(8, 6, relation="symmetric", heads=heads)
    assert [name for name, _ in mapper.named_parameters()] == ["references"]
    assert sum(p.numel() for p in mapper.parameters()) == 6 * 8


@pytest.mark.parametrize("heads", [1, 2])
def test_barycentric_readout_is_the_doubly_stochastic_relation(heads):
    mapper, x = L2GMapper(8, 6, relation="symmetric", heads=heads), tokens()
    mapped = mapper(x)
    plan = mapped.transport.plan.reshape(2, heads, 12, 6)
    relation = 12 * 6 * plan @ plan.transpose(2, 3)
    torch.testing.assert_close(relation.sum(2), torch.ones(2, heads, 12), atol=2e-3, rtol=0)
    torch.testing.assert_close(relation.sum(3), torch.ones(2, heads, 12), atol=2e-3, rtol=0)
    split = x.reshape(2, 12, heads, 8 // heads).transpose(1, 2)
    torch.testing.assert_close(mapped.tokens, (relation @ split).transpose(1, 2).reshape(2, 12, 8))


def test_grid_readout_gives_each_reference_a_convex_average():
    mapper, x = L2GMapper(8, 12, relation="symmetric", readout="grid"), tokens()
    mapped = mapper(x)
    torch.testing.assert_close(mapped.tokens, 12 * mapped.transport.plan.transpose(1, 2) @ x)
    with pytest.raises(ValueError, match="as many references as tokens, got R = 12 and N = 5"):
        mapper(tokens(N=5))


@pytest.mark.parametrize("cost", COSTS)
def test_relation_does_not_depend_on_token_order(cost):
    mapper, x = L2GMapper(8, 6, relation="symmetric", cost=cost), tokens()
    order = torch.randperm(12)
    torch.testing.assert_close(mapper(x[:, order]).tokens, mapper(x).tokens[:, order], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cost", COSTS)
def test_cost_lies_in_the_unit_interval_and_ignores_scale(cost):
    x, references = tokens().unsqueeze(0), tokens(1, 6, 8, seed=1)
    price = unit_cost(x, references, cost)
    assert price.min() >= 0
    assert price.max() <= 1
    torch.testing.assert_close(unit_cost(10 * x, 10 * references, cost), price, atol=1e-5, rtol=1e-5)


def test_cosine_cost_of_equal_and_opposite_directions():
    x = torch.tensor([[[[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0]]]])
    price = unit_cost(x, torch.tensor([[[2.0, 0.0]]]), "cosine")
    torch.testing.assert_close(price.flatten(), torch.tensor([0.0, 1.0, 0.5]))


def plan_on_codes(plan, codes, size):
    """A mapper's plan (Bh, U, R) with a row for each of the `size` codes of the codebook, empty for those not used."""
    codes = codes.repeat_interleave(len(plan) // len(codes), dim=0)  # heads of an image lie together
    on_codes = plan.new_zeros(len(plan), size, plan.shape[2])
    return on_codes.scatter_add(1, codes.clamp_min(0).unsqueeze(2).expand_as(plan), plan)


def test_a_plan_is_that_of_the_histogram_of_codes():
    codebook, indices = tokens(1, 4, 8)[0], torch.tensor([[0, 0, 2, 3, 2, 0], [1, 1, 1, 1, 3, 3]])
    mapper = L2GMapper(8, 5, relation="symmetric", epsilon=0.1)
    mapped = mapper(codebook[indices], indices)
    histogram = torch.stack([row.bincount(minlength=4) for row in indices]) / 6
    cost = unit_cost(codebook[None], mapper.references, "cosine")[0]
    on_codes = solve_transport(cost, histogram, torch.full((5,), 0.2), epsilon=0.1)
    torch.testing.assert_close(
        plan_on_codes(mapped.transport.plan, mapped.codes, 4), on_codes.plan, atol=1e-5, rtol=1e-3
    )


def test_a_plan_keeps_the_heads_of_an_image_together():
    x, indices = tokens(), torch.tensor([[0, 1, 2] * 4, [5, 3, 3] * 4])
    x = x[:, :1].expand(-1, 12, -1) + indices.unsqueeze(2)
    mapped = L2GMapper(8, 6, heads=2)(x, indices)
    on_codes = plan_on_codes(mapped.transport.plan, mapped.codes, 7)
    assert on_codes.shape == (4, 7, 6)
    mass = on_codes.sum(2).reshape(2, 2, 7)
    torch.testing.assert_close(mass[0, 0], torch.tensor([4.0, 4, 4, 0, 0, 0, 0]) / 12)
    torch.testing.assert_close(mass[1, 1], torch.tensor([0, 0, 0, 8.0, 0, 4, 0]) / 12)


@pytest.mark.parametrize("relation", ["symmetric", "send-receive"])
@pytest.mark.parametrize("noise", [0.05, 0.15])
def test_gradients_hold_where_a_plan_falls_into_blocks(relation, noise):
    """Tokens that are references but for noise: each block of the plan may go up and down by itself."""
    for seed in range(4):
        torch.manual_seed(seed)
        mapper = L2GMapper(16, 8, relation=relation)
        x = mapper.references.detach().reshape(-1, 8, 16)[0].repeat(2, 1)[None]
        x, weights = x + noise * torch.randn_like(x), torch.randn(1, 16, 16)
        found = []
        for dtype in (torch.float32, torch.float64):
            own, point = copy.deepcopy(mapper).to(dtype), x.detach().to(dtype).requires_grad_()
            gradients = torch.autograd.grad((own(point).tokens * weights.to(dtype)).sum(), [point, own.references])
            found.append(torch.cat([each.double().flatten() for each in gradients]))
        assert (found[0] - found[1]).norm() < 1e-4 * found[1].norm()


@pytest.mark.parametrize("B", [1, 2, 4, 5])
def test_tokens_may_lie_as_features_become_them(B):
    features = tokens(B).mT.reshape(B, 8, 3, 4)
    mapper = L2GMapper(8, 6)
    given = features.flatten(2).transpose(1, 2)
    torch.testing.assert_close(mapper(given).tokens, mapper(given.contiguous()).tokens)


@pytest.mark.parametrize("cost", COSTS)
def test_a_vector_without_length_has_no_gradient_beyond_measure(cost):
    x = tokens(3)
    x[0], x[1, 0] = 0, 0
    mapper = L2GMapper(8, 6, cost=cost)
    with torch.no_grad():
        mapper.references[0, 0, 0] = 0
    x.requires_grad_()
    (mapper(x).tokens * tokens(3, seed=2)).sum().backward()
    assert x.grad.abs().max() < 1e3
    assert mapper.references.grad.abs().max() < 1e3


@pytest.mark.filterwarnings("ignore::l2gnet.method.transport.ConvergenceWarning")
def test_an_image_of_nan_is_lost_alone():
    x = tokens(3)
    x[0, 0, 0] = torch.nan
    mapper = L2GMapper(8, 6)
    torch.testing.assert_close(mapper(x).tokens[1:], mapper(x[1:]).tokens)


@pytest.mark.parametrize("relation", ["symmetric", "send-receive"])
@pytest.mark.parametrize("cost", COSTS)
def test_a_plan_of_nan_does_not_pass_for_solved(cost, relation):
    x = tokens(2)
    x[0, 0, 0] = torch.nan
    with pytest.warns(ConvergenceWarning, match="NaN or infinite"):
        mapped = L2GMapper(8, 6, cost=cost, relation=relation)(x)
    for plan in (mapped.transport, mapped.receiving):
        assert plan.converged.tolist() == [False, True]
        assert plan.plan[0].isnan().all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_indices_may_be_any_whole_numbers(dtype):
    indices = torch.tensor([[0, 1, 2] * 4] * 2)
    x = tokens()[:, :1].expand(-1, 12, -1) + indices.unsqueeze(2)
    mapper = L2GMapper(8, 6)
    assert torch.equal(mapper(x, indices.to(dtype)).tokens, mapper(x, indices).tokens)


def test_to_hear_slots_asks_for_the_grid_where_positions_are_heard():
    mapper, x = L2GMapper(8, 6, positions=True), tokens()
    mapped = mapper(x, shape=(3, 4))
    torch.testing.assert_close(mapper.heard(mapped.receiving, mapped.slots, shape=(3, 4)), mapped.tokens)
    with pytest.raises(ValueError, match="shape must be the rows and columns of the 12 tokens, got None"):
        mapper.heard(mapped.receiving, mapped.slots)
    grid = L2GMapper(8, 12, relation="symmetric", readout="grid")
    mapped = grid(x)
    torch.testing.assert_close(grid.heard(mapped.receiving, mapped.slots), mapped.tokens)


@pytest.mark.parametrize("cost", COSTS)
def test_gradients_reach_tokens_and_references(cost):
    mapper, x = L2GMapper(8, 6, relation="symmetric", cost=cost), tokens().requires_grad_()
    mapper(x).tokens.square().sum().backward()
    assert x.grad.abs().sum(2).gt(0).all()
    assert mapper.references.grad.abs().sum(2).gt(0).all()


def test_autocast_does_not_lower_the_precision():
    mapper, x = L2GMapper(8, 6, relation="symmetric"), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        mapped = mapper(x)
    assert mapped.tokens.dtype == torch.float32
    torch.testing.assert_close(mapped.tokens, mapper(x).tokens)


def test_products_of_fewer_digits_do_not_keep_a_plan_from_converging():
    """As Lightning advises on tensor cores: single precision in bfloat16 or TF32, with which no plan would converge."""
    torch.manual_seed(0)
    mapper, x = L2GMapper(64, 16, relation="symmetric", heads=4), torch.randn(8, 196, 64)  # small products stay exact
    torch.set_float32_matmul_precision("medium")
    try:
        plan = mapper(x).transport
    finally:
        torch.set_float32_matmul_precision("highest")
    assert plan.converged.all()
    assert plan.iterations.max() < 50


def test_heads_must_divide_the_dimension():
    with pytest.raises(ValueError, match="heads must divide the code dimension 8, got 3"):
        L2GMapper(8, 6, relation="symmetric", heads=3)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("relation", ["symmetric", "send-receive"])
def test_a_batch_may_be_empty(relation, positions):
    mapper = L2GMapper(8, 6, relation=relation, positions=positions, heads=2)
    x = tokens(B=0).requires_grad_()
    for indices in (None, torch.zeros(0, 12, dtype=torch.int64)):
        mapped = mapper(x, indices, (3, 4))
        assert mapped.tokens.shape == (0, 12, mapper.given)
        assert mapped.transport.plan.shape[::2] == mapped.receiving.plan.shape[::2] == (0, 6)
        mapped.tokens.sum().backward()
        assert mapper.references.grad.abs().max() == 0


@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_batch_of_tokens_is_refused_in_a_sentence():
    mapper = L2GMapper(16, 6)
    with pytest.raises(ValueError, match=r"flatten\(2\).transpose\(1, 2\), got \(2, 16, 5, 5\)"):
        mapper(torch.randn(2, 16, 5, 5))
    for shape in ((2, 5, 17), (2, 0, 16)):
        with pytest.raises(ValueError, match=r"tokens must have shape \(B, N, 16\) with N at least 1, got"):
            mapper(torch.randn(shape))
    with pytest.raises(ValueError, match=r"indices must have shape \(B, N\) = \(2, 5\), got \(2, 4\)"):
        mapper(torch.randn(2, 5, 16), torch.zeros(2, 4, dtype=torch.int64))
    for codes in (torch.zeros(2, 5), torch.full((2, 5), -1)):
        with pytest.raises(
            ValueError, match=r"indices must be whole numbers from 0 on, one code a token, got (torch.float32|-1)$"
        ):
            mapper(torch.randn(2, 5, 16), codes)
    with pytest.raises(ValueError, match=r"tokens must be a torch.Tensor, got ndarray; use torch.as_tensor"):
        mapper(torch.randn(2, 5, 16).numpy())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"references": -1}, "references must be at least 1, got -1"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"relation": "mutual"}, "relation must be one of send-receive, symmetric, got 'mutual'"),
        ({"cost": "manhattan"}, "cost must be one of cosine, euclidean, dot"),
        ({"readout": "table"}, "readout must be one of barycentric, grid"),
        ({"epsilon": float("inf")}, "epsilon must be above 0 and finite, got inf"),
        ({"epsilon_receive": float("nan")}, "epsilon_receive must be above 0 and finite, got nan"),
        ({"tolerance": 0.0}, "tolerance must be above 0"),
        ({"max_iterations": -1}, "max_iterations must be at least 0"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        L2GMapper(**{"dim": 8, "references": 6} | setting)


def test_a_mapper_shows_its_settings():
    mapper = L2GMapper(16, 8, heads=2, relation="send-receive", epsilon=0.03, epsilon_receive=0.1, positions=True)
    assert repr(mapper) == (
        "L2GMapper(dim=16, references=8, heads=2, relation='send-receive', epsilon=0.03, epsilon_receive=0.1, "
        "positions=True, cost='cosine', readout='barycentric', tolerance=0.0001, max_iterations=1000)"
    )
    assert "epsilon_receive" not in repr(L2GMapper(16, 8))
