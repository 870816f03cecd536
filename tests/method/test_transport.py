import warnings
from dataclasses import replace

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2gnet.method import sinkhorn
from l2gnet.method.transport import ConvergenceWarning, TransportPlan, make_plan, solve_potential, solve_transport


def problem(seed: int, B: int = 2, K: int = 7, R: int = 5, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(B, K, R, generator=generator, dtype=dtype)
    source = torch.rand(B, K, generator=generator, dtype=dtype) + 0.1
    target = torch.rand(B, R, generator=generator, dtype=dtype) + 0.1
    return cost, source / source.sum(1, keepdim=True), target / target.sum(1, keepdim=True)


def unrolled(cost, source, target, epsilon, iterations=5000):
    """Sinkhorn in its textbook form, every iteration in the graph, until it stands still."""
    f, g = torch.zeros_like(source), torch.zeros_like(target)
    for _ in range(iterations):
        before = f
        f = -epsilon * ((g[:, None] - cost) / epsilon).logsumexp(2) + epsilon * source.log()
        g = -epsilon * ((f[:, :, None] - cost) / epsilon).logsumexp(1) + epsilon * target.log()
        if (f - before).abs().max() < 1e-15:
            break
    return ((f[:, :, None] + g[:, None] - cost) / epsilon).exp()


exact = {"tolerance": 1e-13, "max_iterations": 20_000}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), epsilon=st.sampled_from([0.03, 0.1, 1.0]))
def test_plan_equals_pot(seed, epsilon):
    cost, source, target = problem(seed, B=1)
    ours = solve_transport(cost, source, target, epsilon=epsilon, **exact)
    pot = ot.sinkhorn(
        source[0].numpy(), target[0].numpy(), cost[0].numpy(), epsilon, "sinkhorn_log", numItermax=20_000, stopThr=1e-14
    )
    np.testing.assert_allclose(ours.plan[0].numpy(), pot, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    B=st.integers(1, 3),
    K=st.integers(1, 9),
    R=st.integers(1, 9),
    tolerance=st.sampled_from([1e-2, 1e-5]),
)
def test_marginals_hold_to_the_tolerance(seed, B, K, R, tolerance):
    cost, source, target = problem(seed, B, K, R)
    solved = solve_transport(cost, source, target, epsilon=0.1, tolerance=tolerance)
    assert solved.converged.all()
    torch.testing.assert_close(solved.plan.sum(2), source)
    assert ((solved.plan.sum(1) - target).abs().sum(1) <= tolerance).all()
    torch.testing.assert_close(solved.marginal_error, (solved.plan.sum(1) - target).abs().sum(1))
    torch.testing.assert_close(solved.cost, (solved.plan * cost).sum((1, 2)))


def test_plan_is_made_of_the_potentials():
    cost, source, target = problem(0)
    solved = solve_transport(cost, source, target, epsilon=0.1)
    f, g = solved.source_potential, solved.target_potential
    torch.testing.assert_close(solved.plan, ((f[:, :, None] + g[:, None] - cost) / 0.1).exp())


def test_small_epsilon_approaches_the_linear_programme():
    cost, source, target = problem(3, B=1)
    solved = solve_transport(cost, source, target, epsilon=0.002, tolerance=1e-8, max_iterations=100_000)
    best = ot.emd2(source[0].numpy(), target[0].numpy(), cost[0].numpy())
    assert best <= solved.cost.item() <= best + 0.002 * np.log(5 * 7)


def test_large_epsilon_approaches_the_independent_plan():
    cost, source, target = problem(4)
    solved = solve_transport(cost, source, target, epsilon=1e4)
    torch.testing.assert_close(solved.plan, source[:, :, None] * target[:, None], atol=1e-4, rtol=0)


def test_empty_rows_and_columns_stay_empty():
    cost, source, target = problem(5)
    source[0, 2], target[1, 3] = 0, 0
    source, target = source / source.sum(1, keepdim=True), target / target.sum(1, keepdim=True)
    cost.requires_grad_()
    solved = solve_transport(cost, source, target, epsilon=0.1, **exact)
    assert (solved.plan[0, 2] == 0).all()
    assert (solved.plan[1, :, 3] == 0).all()
    smaller = solve_transport(cost[1:, :, [0, 1, 2, 4]], source[1:], target[1:, [0, 1, 2, 4]], epsilon=0.1, **exact)
    torch.testing.assert_close(solved.plan[1:, :, [0, 1, 2, 4]], smaller.plan)
    gradient = torch.autograd.grad((solved.plan**2).sum(), cost)[0]
    assert gradient.isfinite().all()
    assert (gradient[0, 2] == 0).all()


def test_a_shared_cost_serves_every_image():
    cost, source, target = problem(6)
    shared = solve_transport(cost[0], source, target[0], epsilon=0.1)
    each = solve_transport(cost[:1].expand(2, -1, -1), source, target[:1].expand(2, -1), epsilon=0.1)
    torch.testing.assert_close(shared.plan, each.plan)


def test_codes_that_are_equal_can_be_merged():
    cost, source, target = problem(7)
    cost[:, 1] = cost[:, 0]
    solved = solve_transport(cost, source, target, epsilon=0.1, **exact)
    merged_source = torch.cat([source[:, :1] + source[:, 1:2], source[:, 2:]], dim=1)
    merged = solve_transport(cost[:, 1:], merged_source, target, epsilon=0.1, **exact)
    torch.testing.assert_close(solved.plan[:, 0] + solved.plan[:, 1], merged.plan[:, 0])


@pytest.mark.parametrize("epsilon", [0.05, 0.2, 1.0])
def test_gradients_are_those_of_the_converged_unrolled_loop(epsilon):
    cost, source, target = problem(8)
    weights = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = [source.log().requires_grad_(), target.log().requires_grad_()]
    cost.requires_grad_()

    def gradients(solve):
        plan = solve(cost, logits[0].softmax(1), logits[1].softmax(1))
        return torch.autograd.grad((weights * plan).sum(), [cost, *logits])

    ours = gradients(lambda *given: solve_transport(*given, epsilon=epsilon, **exact).plan)
    loop = gradients(lambda *given: unrolled(*given, epsilon))
    for mine, reference in zip(ours, loop, strict=True):
        assert (mine - reference).norm() <= 1e-8 * reference.norm()


def test_half_precision_is_solved_in_single_precision():
    cost, source, target = problem(9)
    solved = solve_transport(cost.half(), source.half(), target.float(), epsilon=0.1, tolerance=2e-3)
    assert solved.plan.dtype == torch.float32
    assert solved.converged.all()


def test_an_unsolved_plan_says_so():
    cost, source, target = problem(10)
    with pytest.warns(ConvergenceWarning, match="marginal error"):
        solved = solve_transport(cost, source, target, epsilon=0.001, max_iterations=2)
    assert not solved.converged.any()
    assert (solved.iterations == 2).all()


@pytest.mark.parametrize(("dtype", "also"), [(torch.float32, " or give float64"), (torch.float64, "")])
def test_where_rounding_is_the_limit_the_remedy_is_another(dtype, also):
    exact = (x.to(dtype) for x in problem(10))
    with pytest.warns(ConvergenceWarning, match=f"where rounding is the limit, raise tolerance{also}$"):
        solve_transport(*exact, epsilon=0.1, tolerance=1e-20, max_iterations=200)


@pytest.mark.usefixtures("as_a_user")  # shape checks would be traced, too
@pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated")  # torch's own
def test_a_trace_is_refused():
    _, source, target = problem(12)
    with pytest.raises(ValueError, match=r"solve_transport must be called outside a trace, got torch\.jit\.trace"):
        torch.jit.trace(lambda cost: solve_transport(cost, source, target, epsilon=0.1).plan, problem(12)[:1])


def test_a_converged_image_does_not_move_while_others_go_on():
    cost, source, target = problem(11)
    cost[0] = 0.5  # solved by the first step
    together = solve_transport(cost, source, target, epsilon=0.01, max_iterations=5000)
    alone = solve_transport(cost[:1], source[:1], target[:1], epsilon=0.01)
    assert together.iterations[0] == alone.iterations[0] < together.iterations[1]
    torch.testing.assert_close(together.plan[:1], alone.plan)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_histograms_in_half_precision_are_taken_for_what_they_are(dtype):
    cost, source, target = (x.to(dtype) for x in problem(21, B=64, K=50, R=20))
    assert (source.double().sum(1) / target.double().sum(1) - 1).abs().max() > 1e-4
    solved = solve_transport(cost, source, target, epsilon=0.1, tolerance=1e-5)
    assert solved.converged.all()
    torch.testing.assert_close(solved.plan.sum(2), source.float())
    columns = target.float() * (source.float().sum(1, keepdim=True) / target.float().sum(1, keepdim=True))
    torch.testing.assert_close(solved.plan.sum(1), columns, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="same mass"):
        solve_transport(cost, source, (1.1 * target).to(dtype), epsilon=0.1)


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_may_be_empty(shared):
    cost, source, target = problem(22)
    solved = solve_transport(cost[0] if shared else cost[:0], source[:0], target[:0], epsilon=0.1)
    assert solved.plan.shape == (0, 7, 5)
    assert solved.target_potential.shape == (0, 5)
    assert solved.converged.all()


def test_empty_rows_have_no_potential_and_do_no_harm():
    cost, source, target = problem(23)
    source[:, 2] = 0
    source = (source / source.sum(1, keepdim=True)).requires_grad_()
    solved = solve_transport(cost, source, target, epsilon=0.1, **exact)
    assert (solved.source_potential[:, 2] == -torch.inf).all()
    kept = solved.source_potential[:, [0, 1, 3, 4, 5, 6]]
    assert kept.isfinite().all()
    assert torch.autograd.grad(kept.sum(), source)[0].isfinite().all()


def test_numbers_that_are_none_are_named_as_the_reason():
    cost, source, target = problem(24)
    plan = solve_transport(cost, source, target, epsilon=0.1).plan * torch.nan
    with pytest.warns(ConvergenceWarning, match="NaN or infinite; look for them upstream"):
        make_plan(plan, cost, source, target, target, torch.ones(2, dtype=torch.int64), 0.1, 1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, a, b: (c, a * 2, b), "same mass"),
        (lambda c, a, b: (c, a * 0, b * 0), "same mass, above 0"),
        (lambda c, a, b: (c, -a, b), "must not be negative"),
        (lambda c, a, b: (c * torch.nan, a, b), "cost must be finite"),
        (lambda c, a, b: (c, a, b / 0), "target must be finite"),
        (lambda c, a, b: (c[:, :3], a, b), "cost must have shape"),
        (lambda c, a, b: (c, a, torch.cat([b, b, b])), "target must have shape"),
        (lambda c, a, b: (c[:, :0], a[:, :0], b), "at least one row"),
        (lambda c, a, b: (c, a, b[0, 0]), "target must have shape"),
        (lambda c, a, b: (c.numpy(), a, b), "cost must be a torch.Tensor, got ndarray; use torch.as_tensor"),
        (lambda c, a, b: (c, a, b.tolist()), "target must be a torch.Tensor, got list"),
        (lambda c, a, b: (c.cfloat(), a, b), "cost must hold real numbers, got torch.complex64"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_with_the_rule(change, message):
    cost, source, target = problem(12)
    with pytest.raises(ValueError, match=message):
        solve_transport(*change(cost, source, target), epsilon=0.1)


@pytest.mark.usefixtures("as_a_user")
def test_a_start_for_other_problems_is_refused():
    cost, source, target = problem(12)
    R = cost.shape[-1]
    with pytest.raises(ValueError, match=rf"start must have shape \(B, R\) = .*, got \(7, {R}\)"):
        solve_transport(cost, source, target, epsilon=0.1, start=torch.zeros(7, R))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be above 0 and finite, got 0"),
        ({"epsilon": float("nan")}, "epsilon must be above 0 and finite, got nan"),
        ({"epsilon": float("inf")}, "epsilon must be above 0 and finite, got inf"),
        ({"tolerance": -1e-4}, "tolerance must be above 0 and finite, got -0.0001"),
        ({"max_iterations": -1}, "max_iterations must be at least 0, got -1"),
    ],
)
def test_numbers_of_the_solver_must_be_possible(number, message):
    with pytest.raises(ValueError, match=message):
        solve_transport(*problem(13), **{"epsilon": 0.1} | number)


def test_a_plan_shows_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solved: TransportPlan = solve_transport(*problem(14), epsilon=0.001, max_iterations=1)
    html = solved._repr_html_()
    assert "<svg" in html
    assert "<b>no</b>" in html  # not converged, and it says so
    assert "<svg" not in replace(solved, plan=solved.plan * torch.nan)._repr_html_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scalings_are_used_where_they_are_safe_and_logarithms_elsewhere(dtype, monkeypatch):
    used = []
    for name in ("_scaled_columns", "_log_columns"):
        way = getattr(sinkhorn, name)

        def noted(cost, *rest, name=name, way=way, **middle):
            used.append((name, cost.dtype))
            return way(cost, *rest, **middle)

        monkeypatch.setattr(sinkhorn, name, noted)
    cost, source, target = problem(15, dtype=dtype)
    reach = float(cost.max() - cost.min())
    for exponent in (50.0, 52.0, 399.0, 401.0):
        solved = solve_transport(cost, source, target, epsilon=reach / exponent, max_iterations=100_000)
        assert solved.plan.dtype == solved.target_potential.dtype == dtype
    single, double = ("_scaled_columns", dtype), ("_scaled_columns", torch.float64)
    assert used == [single, double, double, ("_log_columns", dtype)]


def test_a_plateau_of_the_error_is_crossed():
    cost, source, target = problem(15)
    epsilon = float(cost.max() - cost.min()) / 400  # the error stays at 0.1043 for some 100 iterations
    assert solve_transport(cost, source, target, epsilon=epsilon).converged.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [2, 3, 9])
def test_few_rows_of_uneven_mass_are_solved_too(rows, dtype):
    cost, source, target = problem(20, B=400, K=rows, R=6, dtype=dtype)
    source = source**8 + 1e-3  # momentum that is right for most images is wrong for some of these
    source = source / source.sum(1, keepdim=True)
    for epsilon in (0.02, 0.01):
        solved = solve_transport(cost, source, target, epsilon=epsilon, max_iterations=5000)
        assert solved.converged.all()
        assert solved.target_potential.isfinite().all()


def test_momentum_that_carries_too_far_for_single_precision_is_taken_back():
    generator = torch.Generator().manual_seed(3)
    cost = (torch.rand(300, 3, 14, generator=generator) > 0.7).double()  # all or nothing
    source, target = (torch.rand(300, n, generator=generator).double() ** 3 + 1e-4 for n in (3, 14))  # uneven, too
    source, target = source / source.sum(1, keepdim=True), target / target.sum(1, keepdim=True)
    double, single = (
        solve_transport(*(x.to(dtype) for x in (cost, source, target)), epsilon=1 / 50.9, max_iterations=3000)
        for dtype in (torch.float64, torch.float32)
    )
    assert single.plan.isfinite().all()
    both = single.converged & double.converged
    assert both.float().mean() > 0.99
    torch.testing.assert_close(single.plan[both].double(), double.plan[both], rtol=0, atol=2e-4)


@pytest.mark.parametrize("epsilon", [0.03, 0.1, 1.0])
def test_scalings_and_logarithms_agree(epsilon, monkeypatch):
    given = problem(16)
    scaled = solve_transport(*given, epsilon=epsilon)
    monkeypatch.setitem(sinkhorn._LARGEST_EXPONENT, torch.float64, 0.0)
    logarithmic = solve_transport(*given, epsilon=epsilon)
    torch.testing.assert_close(scaled.plan, logarithmic.plan)
    assert torch.equal(scaled.iterations, logarithmic.iterations)


def test_single_precision_is_right_down_to_a_small_epsilon():
    cost, source, target = problem(17, K=40, R=30)
    single = solve_transport(cost.float(), source.float(), target.float(), epsilon=0.002, max_iterations=20_000)
    double = solve_transport(cost, source, target, epsilon=0.002, tolerance=1e-10, max_iterations=100_000)
    assert single.converged.all()
    assert (single.plan - double.plan).abs().sum((1, 2)).max() < 1e-2
    torch.testing.assert_close(single.cost.double(), double.cost, atol=1e-4, rtol=0)


def test_heavy_ball_steps_need_fewer_iterations_and_give_the_same_plan(monkeypatch):
    given = problem(18, K=40, R=30)
    fast = solve_transport(*given, epsilon=0.02, tolerance=1e-6, max_iterations=20_000)
    monkeypatch.setattr(sinkhorn._Pace, "learn", lambda *_: None)
    plain = solve_transport(*given, epsilon=0.02, tolerance=1e-6, max_iterations=20_000)
    assert (2 * fast.iterations < plain.iterations).all()
    torch.testing.assert_close(fast.plan, plain.plan, atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), K=st.integers(1, 20), R=st.integers(1, 20), epsilon=st.sampled_from([0.01, 0.05, 0.5])
)
def test_every_problem_is_solved(seed, K, R, epsilon):
    cost, source, target = problem(seed, 2, K, R)
    source, target = source**4, target**4  # very uneven
    source, target = source / source.sum(1, keepdim=True), target / target.sum(1, keepdim=True)
    assert solve_transport(cost, source, target, epsilon=epsilon, max_iterations=20_000).converged.all()


def test_an_earlier_potential_is_a_good_start():
    cost, source, target = problem(19, K=40, R=30)
    first = solve_transport(cost, source, target, epsilon=0.02)
    again = solve_transport(cost, source, target, epsilon=0.02, start=first.target_potential)
    assert (again.iterations == 0).all()
    near = solve_transport(cost + 1e-3 * cost.square(), source, target, epsilon=0.02, start=first.target_potential)
    assert (near.iterations < first.iterations).all()
    assert near.converged.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [5.0, 1000.0])
def test_a_start_far_from_any_solution_is_no_harm(dtype, spread):
    """Exponentials of such potentials overflow: they are brought as near to each other as costs are."""
    cost, source, target = (tensor.to(dtype) for tensor in problem(19, K=40, R=30))
    target[0, 0] = 0
    target[0] /= target[0].sum()
    start = spread * torch.randn(target.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    start[0, 0] = torch.nan  # where there is no mass anything may stand
    plan = solve_transport(cost, source, target, epsilon=0.05, start=start)
    assert plan.converged.all()
    assert plan.iterations.max() < 50


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_only_the_shape_of_the_cost_matters(seed, shift, scale):
    cost, source, target = problem(seed)
    plain = solve_transport(cost, source, target, epsilon=0.1, **exact)
    moved = solve_transport(scale * (cost + shift), source, target, epsilon=0.1 * scale, tolerance=1e-10)
    torch.testing.assert_close(moved.plan, plain.plan, atol=1e-8, rtol=0)


def test_transport_back_is_the_transpose():
    cost, source, target = problem(20)
    there = solve_transport(cost, source, target, epsilon=0.1, **exact)
    back = solve_transport(cost.transpose(1, 2), target, source, epsilon=0.1, **exact)
    torch.testing.assert_close(there.plan, back.plan.transpose(1, 2))


def test_gaussians_are_coupled_as_gaussians():
    """Closed form for N(0, s^2) and N(0, t^2) at squared distance (Janati et al. 2020): covariance of the plan."""
    s, t, epsilon = 1.0, 0.6, 0.5
    x = torch.linspace(-6, 6, 201, dtype=torch.float64)
    source, target = ((-x.square() / (2 * v**2)).exp() for v in (s, t))
    solved = solve_transport(
        (x[:, None] - x).square(), (source / source.sum())[None], target / target.sum(), epsilon=epsilon, tolerance=1e-9
    )
    covariance = (solved.plan[0] * x[:, None] * x).sum()
    # Of the cost |x - y|^2 = x^2 + y^2 - 2 x y only the product counts: the plan is Gaussian with correlation r,
    # r s t / (s^2 t^2 (1 - r^2)) = 2 / epsilon.
    sigma = epsilon / 2
    expected = ((sigma**2 + 4 * s**2 * t**2) ** 0.5 - sigma) / 2
    assert abs(covariance - expected) < 1e-6


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_iterations": 1e3}, "max_iterations must be a whole number, got 1000.0"),
        ({"epsilon": "0.1"}, "epsilon must be a number, got '0.1'"),
        ({"start": [0.0] * 5}, "start must be a torch.Tensor, got list"),
        ({"start": torch.full((2, 5), torch.nan)}, "start must be finite"),
    ],
)
def test_what_no_solver_can_use_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        solve_transport(*problem(0, dtype=torch.float32), **{"epsilon": 0.1} | wrong)


def test_masses_that_rounding_set_apart_are_made_equal():
    """Else no iteration meets the target, and the words on it ask for more of them."""
    cost, source, target = problem(24, dtype=torch.float32)
    target.requires_grad_()
    alike, apart = (
        solve_transport(cost, source, share * target, epsilon=0.1, tolerance=1e-5) for share in (1, 1 + 9e-5)
    )
    assert torch.equal(alike.iterations, apart.iterations)
    torch.testing.assert_close(apart.plan, alike.plan)
    plainly, _ = solve_potential(cost, source, target, epsilon=0.1, tolerance=1e-5, max_iterations=1000)
    slopes = [
        torch.autograd.grad(potential.square().sum(), target)[0]
        for potential in (plainly, alike.target_potential, apart.target_potential)
    ]
    for slope in slopes[1:]:
        torch.testing.assert_close(slope, slopes[0], rtol=1e-3, atol=1e-5)
