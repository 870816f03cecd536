"""Derivatives of any order and in both modes, against loops that are unrolled, finite differences and each other."""

from functools import partial

import pytest
import torch
from test_transport import exact, problem, unrolled
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from l2gnet.method.mapper import L2GMapper
from l2gnet.method.transport import solve_transport

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own code uses it
solve = partial(solve_transport, epsilon=0.1, **exact)
RELATIONS = [
    ("symmetric", False, 1, "cosine", "barycentric"),
    ("symmetric", True, 2, "cosine", "barycentric"),
    ("symmetric", False, 1, "dot", "grid"),
    ("send-receive", False, 2, "euclidean", "barycentric"),
    ("send-receive", True, 1, "cosine", "barycentric"),
    ("send-receive", True, 1, "cosine", "barycentric", True),
    ("send-receive", False, 2, "dot", "barycentric", True),
]


def given(seed=0, empty=False):
    """A cost, and logarithms of histograms, since only those of one mass make sense."""
    cost, source, target = problem(seed, B=2, K=4, R=3)
    if empty:
        source[0, 1], target[1, 2] = 0, 0
    return cost.requires_grad_(), source.log().requires_grad_(), target.log().requires_grad_()


def seen(cost, log_source, log_target):
    solved = solve(cost, log_source.softmax(1), log_target.softmax(1))
    return solved.plan, solved.cost, solved.source_potential[:, :, None] + solved.target_potential[:, None]


def test_first_derivatives_of_both_modes_are_those_of_finite_differences():
    assert gradcheck(seen, given(), check_forward_ad=True)


def test_second_derivatives_of_all_modes_are_those_of_finite_differences():
    assert gradgradcheck(seen, given(), check_fwd_over_rev=True, fast_mode=True)
    cost, source, target = given()
    assert gradgradcheck(
        lambda c: seen(c, source.detach(), target.detach()), [cost[0].detach().requires_grad_()], fast_mode=True
    )


def test_second_derivatives_pass_by_empty_rows_and_columns():
    cost, source, target = given(empty=True)
    source, target = source.softmax(1).detach(), target.softmax(1).detach()
    assert gradgradcheck(lambda c: solve(c, source, target).plan, [cost], check_fwd_over_rev=True, fast_mode=True)


def test_the_hessian_is_that_of_the_unrolled_loop_however_it_is_asked_for():
    cost, source, target = (x.detach() for x in problem(1, B=1, K=4, R=3))

    def loss(plan_of):
        return lambda c: plan_of(c, source, target).square().sum()

    expected = torch.autograd.functional.hessian(loss(partial(unrolled, epsilon=0.1)), cost)
    ours = loss(lambda *of: solve(*of).plan)
    torch.testing.assert_close(torch.autograd.functional.hessian(ours, cost), expected, atol=1e-9, rtol=1e-7)
    forward, reverse = torch.func.jacfwd, torch.func.jacrev
    for outer in (forward, reverse):
        for inner in (forward, reverse):
            torch.testing.assert_close(outer(inner(ours))(cost), expected, atol=1e-9, rtol=1e-7)


def test_a_third_derivative_is_that_of_the_unrolled_loop():
    cost, source, target = problem(2, B=1, K=4, R=3)
    weights = torch.rand_like(cost)

    def third(plan_of):
        c = cost.clone().requires_grad_()
        value = (weights * plan_of(c, source, target)).square().sum()
        for _ in range(3):
            (slope,) = torch.autograd.grad(value, c, create_graph=True)
            value = (weights * slope).sum()
        return slope

    torch.testing.assert_close(
        third(lambda *of: solve(*of).plan), third(partial(unrolled, epsilon=0.1)), rtol=1e-6, atol=1e-9
    )


def layer(relation, positions, heads, cost, readout, receivers=False):
    """What a mapper gives as a function of tokens and references, and both, without codes; others may receive."""
    torch.manual_seed(1)
    mapper = L2GMapper(
        4,
        6 if readout == "grid" else 3,
        relation=relation,
        positions=positions,
        heads=heads,
        cost=cost,
        readout=readout,
        epsilon=0.1,
        epsilon_receive=0.3,
        **exact,
    ).double()

    def outputs(tokens, references, indices=None):
        others = (tokens.exp(),) if receivers else ()
        mapped = torch.func.functional_call(mapper, {"references": references}, (tokens, indices, (2, 3), *others))
        return mapped.tokens, mapped.transport.plan, mapped.receiving.plan

    tokens = torch.randn(2, 6, 4, dtype=torch.float64).requires_grad_()
    return outputs, tokens, mapper.references.detach().clone().requires_grad_()


def weighted(outputs, *given):
    generator = torch.Generator().manual_seed(4)
    made = outputs(*given)
    return sum((torch.randn(x.shape, generator=generator, dtype=x.dtype) * x.sin()).sum() for x in made)


def slopes(loss, *inputs):
    return torch.autograd.grad(loss(*inputs), inputs, create_graph=True)


@pytest.mark.parametrize("setting", [one for one in RELATIONS if one[3] == "cosine"])
def test_second_derivatives_of_the_mapper_are_those_of_finite_differences(setting):
    outputs, tokens, references = layer(*setting)
    assert gradgradcheck(
        partial(weighted, outputs), (tokens, references), check_fwd_over_rev=True, fast_mode=True, atol=1e-6
    )


@pytest.mark.parametrize("codes", [True, False])
@pytest.mark.parametrize("setting", RELATIONS)
def test_all_ways_to_derivatives_of_the_mapper_agree(setting, codes):
    outputs, tokens, references = layer(*setting)
    indices = None
    if codes:
        indices = torch.tensor([[0, 1, 1, 2, 0, 0], [2, 2, 2, 2, 2, 2]])
        tokens = torch.randn(3, 4, dtype=torch.float64)[indices].requires_grad_()
    loss = partial(weighted, partial(outputs, indices=indices))
    first = torch.autograd.grad(loss(tokens, references), (tokens, references))
    for others in (slopes(loss, tokens, references), torch.func.grad(loss, (0, 1))(tokens, references)):
        torch.testing.assert_close(others, first)

    moves = tuple(torch.randn_like(x) for x in (tokens, references))
    expected = sum((slope * move).sum() for slope, move in zip(first, moves, strict=True))
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, (tokens.detach(), references.detach()), moves)
        torch.testing.assert_close(forward_ad.unpack_dual(loss(*duals)).tangent, expected)
    for jvp in (torch.func.jvp, torch.autograd.functional.jvp):
        torch.testing.assert_close(jvp(loss, (tokens, references), moves)[1], expected)

    second = torch.func.jvp(torch.func.grad(loss, (0, 1)), (tokens, references), moves)[1]
    along = sum((slope * move).sum() for slope, move in zip(slopes(loss, tokens, references), moves, strict=True))
    torch.testing.assert_close(torch.autograd.grad(along, (tokens, references)), second)


def test_a_penalty_on_gradients_reaches_all_weights():
    torch.manual_seed(0)
    before, mapper = torch.nn.Linear(4, 4), L2GMapper(4, 3, relation="send-receive")
    tokens = torch.randn(2, 6, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(mapper(before(tokens)).tokens.square().sum(), tokens, create_graph=True)
    (slope.norm() - 1).square().backward()
    for weight in (before.weight, mapper.references):
        assert weight.grad.isfinite().all()
        assert weight.grad.abs().max() > 0


def test_a_map_over_problems_is_refused():
    cost, source, target = problem(3)
    with pytest.raises(ValueError, match=r"solve_transport must be called without torch.func.vmap"):
        torch.func.vmap(lambda c: solve(c, source, target).plan)(torch.stack([cost, cost]))
    mapper, tokens, codes = L2GMapper(8, 3), torch.randn(2, 3, 7, 8), torch.zeros(2, 3, 7, dtype=torch.int64)
    for map_of in (torch.func.vmap, lambda f: torch.func.vmap(torch.func.grad(lambda *x: f(*x).sum()))):
        with pytest.raises(ValueError, match=r"give it all tokens as one batch, \(B, N, d\)"):
            map_of(lambda x: mapper(x).tokens)(tokens)
        with pytest.raises(ValueError, match=r"give it all tokens as one batch, \(B, N, d\)"):
            map_of(lambda x, i: mapper(x, i).tokens)(tokens, codes)


@pytest.mark.parametrize("receivers", [False, True])
def test_no_derivative_minds_a_vector_without_a_length(receivers):
    """As of padding; its cosine is constant."""
    outputs, tokens, references = layer("send-receive", False, 2, "cosine", "barycentric", receivers)
    with torch.no_grad():
        tokens[0, 1, :2], references[0, 0, 1] = 0, 0
    loss = partial(weighted, outputs)
    first = slopes(loss, tokens, references)
    second = torch.autograd.grad(sum(slope.square().sum() for slope in first), (tokens, references))
    assert all(slope.isfinite().all() for slope in (*first, *second))
