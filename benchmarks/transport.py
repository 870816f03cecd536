"""The transport layer against its peers: forward, and forward with backward, to one marginal error.

Run `python benchmarks/transport.py`; `--full` measures every size. Every peer maps the same tokens (B, N, d), of which
each image has at most U distinct ones, to related tokens, by way of R references. The peers of a case take turns in
one run, on one thread; medians of CPU time are shown, and ratios are medians over the turns. An iterative peer gets
the smallest number of iterations (within a tenth) that brings its marginal error to 1e-4, found beforehand and not
timed; ours stops by itself. GeomLoss and OTT-JAX take part where they are installed (`pip install geomloss ott-jax`).
"""

import argparse
import importlib.util
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import ot
import torch
import torch.nn.functional as F
from ot.batch import solve_batch
from torch import Tensor, nn
from torch.profiler import profile

from l2gnet.files import write_json
from l2gnet.method.cost import unit_cost
from l2gnet.method.mapper import L2GMapper
from l2gnet.method.rows import rows_of_codes

TOLERANCE = 1e-4
Plan = Callable[[Tensor, int], Tensor]  # cost (B, N, R) and a number of iterations to a plan (B, N, R)


@dataclass(frozen=True)
class Case:
    """B images of N tokens (d), R references, K codes of which each image uses at most U."""

    B: int
    N: int
    R: int
    d: int
    K: int
    U: int
    epsilon: float


class Problem:
    """Tokens around a few directions, as a trained encoder gives them, and references among them."""

    def __init__(self, case: Case):
        generator = torch.Generator().manual_seed(0)
        draw = partial(torch.randn, generator=generator)
        basis = draw(5, case.d)
        codes = draw(case.K, 5) @ basis + 0.3 * draw(case.K, case.d)
        self.indices = torch.stack(
            [
                torch.randperm(case.K, generator=generator)[: case.U][
                    torch.randint(0, case.U, (case.N,), generator=generator)
                ]
                for _ in range(case.B)
            ]
        )
        self.tokens = codes[self.indices].requires_grad_()
        self.references = (draw(case.R, 5) @ basis + 0.3 * draw(case.R, case.d))[None].requires_grad_()
        self.slope = draw(case.B, case.N, case.d)
        self.case = case

    def cost(self) -> Tensor:
        return unit_cost(self.tokens[None], self.references, "cosine")[0]

    def related(self, plan: Tensor) -> Tensor:
        return self.case.N * plan @ (self.case.R * plan.transpose(1, 2) @ self.tokens)

    def error(self, plan: Tensor) -> float:
        rows = (plan.sum(2) - 1 / self.case.N).abs().sum(1)
        return float(torch.maximum(rows, (plan.sum(1) - 1 / self.case.R).abs().sum(1)).max())

    def step(self, layer: Callable[[], Tensor]) -> tuple[float, float]:
        """CPU seconds of the forward pass alone, and with the backward pass."""
        self.tokens.grad = self.references.grad = None
        start = time.process_time()
        related = layer()
        middle = time.process_time()
        related.backward(self.slope)
        return middle - start, time.process_time() - start


# Peers. Each maps a cost to a plan in a given number of iterations; autograd does the rest.


def log_unrolled(cost: Tensor, iterations: int, epsilon: float) -> Tensor:
    """Textbook Sinkhorn on logarithms."""
    (B, N, R), scores = cost.shape, -cost / epsilon
    f, g = cost.new_zeros(B, N), cost.new_zeros(B, R)
    log_a, log_c = cost.new_tensor(1 / N).log(), cost.new_tensor(1 / R).log()
    for _ in range(iterations):
        f = log_a - (scores + g[:, None]).logsumexp(2)
        g = log_c - (scores + f[:, :, None]).logsumexp(1)
    return (scores + f[:, :, None] + g[:, None]).exp()


def scaling_unrolled(cost: Tensor, iterations: int, epsilon: float) -> Tensor:
    """Sinkhorn on scalings, the form of the optimal transport kernel (Mialon et al., ICLR 2021)."""
    (B, N, R), kernel = cost.shape, (-cost / epsilon).exp()
    v = cost.new_ones(B, R, 1)
    for _ in range(iterations):
        u = (1 / N) / (kernel @ v)
        v = (1 / R) / (kernel.transpose(1, 2) @ u)
    return u * kernel * v.transpose(1, 2)


def pot_batch(cost: Tensor, iterations: int, epsilon: float, method: str, grad: str) -> Tensor:
    return solve_batch(cost, epsilon, max_iter=iterations, tol=1e-30, method=method, grad=grad).plan


def pot_each(cost: Tensor, iterations: int, epsilon: float) -> Tensor:
    (_, N, R), options = cost.shape, {"numItermax": iterations, "stopThr": 0.0, "warn": False}
    a, c = cost.new_full((N,), 1 / N), cost.new_full((R,), 1 / R)
    return torch.stack([ot.sinkhorn(a, c, image, epsilon, "sinkhorn_log", **options) for image in cost])


def fewest_iterations(problem: Problem, plan: Plan) -> int:
    """The smallest number of iterations, within a tenth, at which a peer's marginal error is small enough."""
    with torch.no_grad():
        cost, high = problem.cost(), 2
        while problem.error(plan(cost, high)) > TOLERANCE and high < 4000:
            high *= 2
        low = high // 2
        while high - low > max(1, high // 10):
            middle = (low + high) // 2
            low, high = (low, middle) if problem.error(plan(cost, middle)) <= TOLERANCE else (middle, high)
    return high


def layers(problem: Problem) -> dict[str, tuple[Callable[[], Tensor], dict[str, Any]]]:
    """Every layer by name: what to call, and what is known of it beforehand."""
    case = problem.case
    mapper = L2GMapper(case.d, case.R, epsilon=case.epsilon, tolerance=TOLERANCE)
    del mapper.references  # to be the problem's own, so that all peers share them
    mapper.references = problem.references
    solved = mapper(problem.tokens, problem.indices).transport
    found: dict[str, tuple[Callable[[], Tensor], dict[str, Any]]] = {
        "ours": (
            lambda: mapper(problem.tokens, problem.indices).tokens,
            {"iterations": int(solved.iterations.max()), "error": float(solved.marginal_error.max())},
        )
    }
    plans: dict[str, Plan] = {
        "unrolled, logarithms": partial(log_unrolled, epsilon=case.epsilon),
        "unrolled, scalings (OTK)": partial(scaling_unrolled, epsilon=case.epsilon),
        "POT batch, default (detached)": partial(pot_batch, epsilon=case.epsilon, method="auto", grad="envelope"),
        "POT batch, default, autodiff": partial(pot_batch, epsilon=case.epsilon, method="auto", grad="autodiff"),
        "POT batch, sinkhorn, autodiff": partial(pot_batch, epsilon=case.epsilon, method="sinkhorn", grad="autodiff"),
        "POT batch, last_step (inexact)": partial(pot_batch, epsilon=case.epsilon, method="sinkhorn", grad="last_step"),
        "POT, one by one": partial(pot_each, epsilon=case.epsilon),
    }
    needed: dict[str, int] = {}
    for name, plan in plans.items():
        # The same iteration on logarithms or scalings, whoever wrote it: counted once for each way of writing it.
        iterations = needed.setdefault(name.split(",")[0], fewest_iterations(problem, plan))
        with torch.no_grad():
            known = {"iterations": iterations, "error": problem.error(plan(problem.cost(), iterations))}
        found[name] = (lambda plan=plan, n=iterations: problem.related(plan(problem.cost(), n)), known)
    if importlib.util.find_spec("geomloss"):
        found["GeomLoss, defaults"] = geomloss_layer(problem)
    if importlib.util.find_spec("ott"):
        found["OTT-JAX, compiled"] = ott_layer(problem)
    attention = nn.MultiheadAttention(case.d, 8, batch_first=True)
    found["8-head self-attention"] = (
        lambda: attention(problem.tokens, problem.tokens, problem.tokens, need_weights=False)[0],
        {},
    )
    found["attention, no projections"] = (
        lambda: F.scaled_dot_product_attention(problem.tokens, problem.tokens, problem.tokens),
        {},
    )
    found["our matrix products alone"] = (products(problem, int(solved.iterations.max())), {})
    return found


def geomloss_layer(problem: Problem) -> tuple[Callable[[], Tensor], dict[str, Any]]:
    from geomloss import SamplesLoss

    def cosine_cost(x: Tensor, y: Tensor) -> Tensor:
        return (1 - F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).transpose(1, 2)) / 2

    epsilon = problem.case.epsilon
    solver = SamplesLoss("sinkhorn", p=1, blur=epsilon, cost=cosine_cost, debias=False, potentials=True)

    def plan() -> Tensor:
        references = problem.references.expand(problem.case.B, -1, -1).contiguous()
        f, g = solver(problem.tokens, references)
        scores = (f.view(*f.shape[:1], -1, 1) + g.view(*g.shape[:1], 1, -1) - problem.cost()) / epsilon
        return scores.exp() / (problem.case.N * problem.case.R)

    with torch.no_grad():
        known = {"error": problem.error(plan())}
    return lambda: problem.related(plan()), known


def ott_layer(problem: Problem) -> tuple[Callable[[], Tensor], dict[str, Any]]:
    """OTT-JAX's Sinkhorn on scalings and its implicit gradient, the whole layer compiled by XLA."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    import jax
    import jax.numpy as jnp
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.implicit_differentiation import ImplicitDiff
    from ott.solvers.linear.sinkhorn import Sinkhorn

    # Its adjoint system is singular: without a ridge, or to its default accuracy of 1e-6, its solver stops in float32.
    accuracy = {"ridge_kernel": 1e-2, "ridge_identity": 1e-6, "rtol": 1e-4, "atol": 1e-6}
    adjoint = ImplicitDiff(symmetric=True, precondition_fun=lambda x: x, solver_kwargs=accuracy)
    solver = Sinkhorn(
        lse_mode=False, threshold=TOLERANCE, inner_iterations=5, max_iterations=2000, implicit_diff=adjoint
    )
    case = problem.case

    def plan(tokens: Any, references: Any) -> Any:
        x, z = (v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in (tokens, references))
        return solver(LinearProblem(Geometry((1 - x @ z.T) / 2, epsilon=case.epsilon)))

    def related(tokens: Any, references: Any) -> Any:
        def of_image(image: Any) -> Any:
            matrix = plan(image, references).matrix
            return case.N * matrix @ (case.R * matrix.T @ image)

        return jax.vmap(of_image)(tokens)

    forward = jax.jit(lambda tokens, references: jax.vjp(related, tokens, references))
    backward = jax.jit(lambda pullback, slope: pullback(slope))

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, tokens, references):
            result, ctx.pullback = forward(jnp.asarray(tokens.numpy()), jnp.asarray(references[0].numpy()))
            return torch.from_numpy(np.array(result))

        @staticmethod
        def backward(ctx, slope):
            d_tokens, d_references = backward(ctx.pullback, jnp.asarray(slope.numpy()))
            return torch.from_numpy(np.array(d_tokens)), torch.from_numpy(np.array(d_references))[None]

    def solve(image: Any) -> tuple[Any, Any]:
        solved = plan(image, jnp.asarray(problem.references[0].detach().numpy()))
        return solved.n_iters, solved.matrix

    iterations, matrices = jax.vmap(solve)(jnp.asarray(problem.tokens.detach().numpy()))
    known = {"iterations": int(iterations.max()), "error": problem.error(torch.from_numpy(np.array(matrices)))}
    return lambda: Layer.apply(problem.tokens, problem.references), known


class Products(torch.autograd.Function):
    """Nothing but the matrix products of our layer, at their sizes; its numbers mean nothing."""

    @staticmethod
    def forward(ctx, tokens, references, e, q, kernel, scaled, iterations):
        ctx.save_for_backward(e, q)
        z = references[0]
        examples = tokens.flatten(0, 1)[: len(kernel)]
        _ = examples @ z.T
        transposed = kernel.T.contiguous()
        for _ in range(iterations):
            scaled = (scaled @ transposed) @ kernel
        aligned = q.transpose(1, 2) @ e
        ctx.aligned, ctx.z = aligned, z
        _ = q @ aligned
        return tokens.detach()

    @staticmethod
    def backward(ctx, slope):
        (e, q), aligned, z = ctx.saved_tensors, ctx.aligned, ctx.z
        d_aligned = q.transpose(1, 2) @ e
        for left, right in ((e, d_aligned.transpose(1, 2)), (e, aligned.transpose(1, 2)), (q.transpose(1, 2), q)):
            _ = left @ right
        d_references = (q.transpose(1, 2) @ e).sum(0)
        _ = q @ d_aligned, q @ z
        gain = slope @ aligned.transpose(1, 2)
        return gain @ z, d_references[None], None, None, None, None, None


def products(problem: Problem, iterations: int) -> Callable[[], Tensor]:
    rows = rows_of_codes(problem.indices)
    (B, U), R = rows.codes.shape, problem.case.R
    e = problem.tokens.detach().gather(1, rows.first[..., None].expand(-1, -1, problem.case.d))
    q, kernel = torch.rand(B, U, R) / R, torch.rand(len(rows.example), R) / R
    scaled = torch.rand(B, R) / len(kernel)
    return lambda: Products.apply(problem.tokens, problem.references, e, q, kernel, scaled, iterations)


def kept_mb(layer: Callable[[], Tensor]) -> float:
    """Memory that a forward pass keeps for the backward pass, in MB."""
    storages: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        related = layer()  # held, so that no address is used twice
    del related
    return sum(storages.values()) / 1e6


def peak_mb(problem: Problem, layer: Callable[[], Tensor]) -> float:
    """The most memory that a forward and backward pass holds at a time, beyond its input, in MB."""
    with profile(profile_memory=True) as profiler:
        problem.step(layer)
    held = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


def measure(case: Case, turns: int) -> list[dict[str, Any]]:
    """One row for each layer of a case."""
    torch.manual_seed(0)
    problem = Problem(case)
    exact = L2GMapper(case.d, case.R, epsilon=case.epsilon, tolerance=1e-11, max_iterations=100_000)
    exact.references.data = problem.references.detach().clone()
    double = problem.tokens.detach().double().requires_grad_()
    exact.double()(double).tokens.backward(problem.slope.double())
    chosen = layers(problem)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    slopes: dict[str, Tensor] = {}
    for turn in range(turns + 1):
        for name, (layer, _) in list(chosen.items()):
            try:
                seconds = problem.step(layer)
            except Exception as error:  # OTT-JAX: its adjoint system is singular, and its linear solver may give up
                print(f"\n{case}: {name} failed: {str(error).strip().splitlines()[0]}")
                del chosen[name]
                continue
            if turn:
                times[name].append(seconds)
            elif problem.tokens.grad is not None:
                slopes[name] = problem.tokens.grad
    rows = []
    for name, (layer, known) in chosen.items():
        pairs = list(zip(times[name], times["ours"], strict=True))
        by_transport = "attention" not in name and "alone" not in name
        wrong = (slopes[name].double() - double.grad).norm() / double.grad.norm() if by_transport else None
        rows.append(
            asdict(case)
            | {"layer": name, **known}
            | {
                "forward_ms": 1000 * median(t[0] for t in times[name]),
                "both_ms": 1000 * median(t[1] for t in times[name]),
            }
            | {
                "forward_ratio": median(t[0] / o[0] for t, o in pairs),
                "both_ratio": median(t[1] / o[1] for t, o in pairs),
            }
            | {"gradient_error": None if wrong is None else float(wrong), "kept_mb": kept_mb(layer)}
            | {"peak_mb": None if name.startswith("OTT") else peak_mb(problem, layer)}
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    print(
        f"\n(B,N,R,d) = ({first['B']},{first['N']},{first['R']},{first['d']}), K = {first['K']}, "
        f"U = {first['U']}, epsilon = {first['epsilon']:g}"
    )
    print(
        f"{'':32}{'forward':>9}{'ratio':>7}{'+ backward':>12}{'ratio':>7}"
        f"{'iterations':>12}{'error':>9}{'gradient off by':>17}{'kept MB':>9}{'peak MB':>9}"
    )
    for row in rows:
        off = row["gradient_error"]
        print(
            f"{row['layer']:32}{row['forward_ms']:>9.2f}{row['forward_ratio']:>7.1f}{row['both_ms']:>12.2f}"
            f"{row['both_ratio']:>7.1f}{row.get('iterations', ''):>12}"
            f"{format(row['error'], '.0e') if 'error' in row else '':>9}"
            f"{'' if off is None else format(off, '.0e'):>17}{row['kept_mb']:>9.1f}"
            f"{'' if row['peak_mb'] is None else format(row['peak_mb'], '.1f'):>9}",
            flush=True,
        )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Forward and backward, in multiples of ours, a group of bars for each case."""
    cases = list(dict.fromkeys(tuple(row[key] for key in Case.__dataclass_fields__) for row in rows))
    names = [name for name in dict.fromkeys(row["layer"] for row in rows) if name != "ours"]
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.55 * len(cases) * 2.2), layout="constrained")
    colours = plt.get_cmap("tab20").colors
    for place, name in enumerate(names):
        ratios = [
            next(
                (
                    r["both_ratio"]
                    for r in rows
                    if r["layer"] == name and tuple(r[k] for k in Case.__dataclass_fields__) == c
                ),
                0.0,
            )
            for c in cases
        ]
        heights = [i + 0.85 * place / len(names) for i in range(len(cases))]
        axes.barh(heights, ratios, height=0.8 / len(names), color=colours[place], label=name)
    labels = [f"({c[0]},{c[1]},{c[2]},{c[3]})\nK {c[4]}, U {c[5]}, ε {c[6]:g}" for c in cases]
    axes.set_yticks([i + 0.4 for i in range(len(cases))], labels, fontsize=8)
    axes.set_ylim(len(cases), -0.2)
    axes.axvline(1, color="black", lw=1)
    axes.set(xscale="log", xlabel="time of forward and backward, in multiples of ours (one thread)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def cases(full: bool) -> list[Case]:
    sizes = [(8, 196, 64, 256), (16, 196, 196, 512), (8, 784, 64, 256), (24, 196, 64, 768), (8, 3136, 64, 256)]
    if full:
        return [
            Case(*size, K, U, epsilon)
            for size in sizes
            for K in (64, 256, 512, 1024)
            for U in sorted({u for u in (16, 64, 128, 256, K) if u <= min(K, size[1])})
            for epsilon in (0.02, 0.05, 0.1, 0.5)
        ]
    chosen = [Case(*size, 512, min(160, size[1]), 0.1) for size in sizes]
    chosen += [Case(8, 784, 64, 256, 512, U, 0.1) for U in (16, 128, 256, 512)]
    return chosen + [Case(8, 784, 64, 256, 512, 128, epsilon) for epsilon in (0.02, 0.05, 0.5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="every size, K, U and epsilon")
    parser.add_argument("--turns", type=int, default=7, help="counted turns of each layer")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of transport.json and transport.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # peers warn of what the table shows
    rows: list[dict[str, Any]] = []
    for case in cases(arguments.full):
        measured = measure(case, arguments.turns)
        show(measured)
        rows += measured
    write_json(arguments.out / "transport.json", rows)
    plot(rows, arguments.out / "transport.png")


if __name__ == "__main__":
    main()
