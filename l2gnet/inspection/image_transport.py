"""The transport of one image, to look at: its plan at any epsilon, whom a pixel is related to, and what attention does.

Everything is computed in float64 on the rows of the plan, one a code; what a pixel shows is gathered from them.
"""

import warnings
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from l2gnet.inspection.changed_parts import evaluating
from l2gnet.method.codebook import Codebook
from l2gnet.method.cost import unit_cost
from l2gnet.method.mapper import L2GMapper
from l2gnet.method.rows import rows_of_codes
from l2gnet.method.transport import ConvergenceWarning, TransportPlan, solve_transport
from l2gnet.models.backbone import SegmentationModel
from l2gnet.shapes import Float, Float32, Int64


class ImageTransport:
    """From the codes of one image to references: the problem whose solution is the plan.

    Where tokens send by one plan and receive by another, this is the problem of sending and `receiving` the other one;
    where one plan serves both, `receiving` is the problem itself.

    Args:
        cost: price of moving one unit of mass from a row (a code) to a reference.
        rows: for each bottleneck pixel of the image, its row of the plan; None without an image.
        source: mass of each row, adding up to 1; by default the share of the pixels that have it.
        target: mass of each reference, adding up to 1; by default 1/R.
        names: of the rows, for example their indices in the codebook; by default 0..K-1.
        tokens: the vector of each row, for softmax attention on the same tokens.
        receiving_cost: price of receiving a unit of mass from a reference, where that is another one.

    Raises:
        ValueError: neither `rows` nor `source` is given, or the arrays do not belong together.
    """

    def __init__(
        self,
        cost: Float[np.ndarray, "K R"],
        rows: Int64[np.ndarray, "h w"] | None = None,
        *,
        source: Float[np.ndarray, " K"] | None = None,
        target: Float[np.ndarray, " R"] | None = None,
        names: Int64[np.ndarray, " K"] | None = None,
        tokens: Float[np.ndarray, "K d"] | None = None,
        receiving_cost: Float[np.ndarray, "K R"] | None = None,
    ):
        K, R = cost.shape
        if receiving_cost is not None and receiving_cost.shape != cost.shape:
            raise ValueError(f"receiving_cost must have the shape of the cost {(K, R)}, got {receiving_cost.shape}")
        if rows is not None and (rows.min() < 0 or rows.max() >= K):
            raise ValueError(f"rows must lie in 0..{K - 1}, the rows of the cost, got {rows.min()}..{rows.max()}")
        if source is None:
            if rows is None:
                raise ValueError("a plan needs the mass of its rows, got neither source nor rows; give one of them")
            source = np.bincount(rows.ravel(), minlength=K) / rows.size
        target = np.full(R, 1 / R) if target is None else target
        names = np.arange(K) if names is None else names
        for name, value, length in (("source", source, K), ("target", target, R), ("names", names, K)):
            if len(value) != length:
                raise ValueError(f"{name} must have length {length} to fit the cost {(K, R)}, got {len(value)}")
        for name, value in (("source", source), ("target", target)):
            if not np.isclose(value.sum(), 1, atol=1e-4):
                raise ValueError(f"{name} must add up to 1, got {value.sum():.6g}; divide it by its sum")
        if tokens is not None and len(tokens) != K:
            raise ValueError(f"tokens must hold a vector for each of the {K} rows of the cost, got {len(tokens)}")
        if rows is not None and not (source[rows] > 0).all():
            raise ValueError("a row that pixels have must have mass, got a source of 0; leave source to be counted")
        self.cost, self.rows, self.tokens = cost.astype(np.float64), rows, tokens
        self.source, self.target, self.names = source.astype(np.float64), target.astype(np.float64), names
        self.receiving = self
        if receiving_cost is not None:
            self.receiving = ImageTransport(
                receiving_cost, rows, source=source, target=target, names=names, tokens=tokens
            )

    @classmethod
    def of_model(
        cls, model: SegmentationModel, image: Float32[torch.Tensor, "1 C H W"], *, head: int = 0
    ) -> "ImageTransport":
        """The problems that a model's mapper solves for an image, with a row for each code that the image uses.

        Raises:
            ValueError: the model has no mapper, or not so many heads.
        """
        codebook, mapper = codebook_and_mapper(model)
        if not 0 <= head < mapper.heads:
            raise ValueError(f"head must lie in 0..{mapper.heads - 1}, the heads of the mapper, got {head}")
        R, size = mapper.references.shape[-2:]
        with torch.inference_mode(), evaluating(model):
            codes = model.trace(image).latent.codes
            assert codes is not None  # a codebook gives them
            rows = rows_of_codes(codes.flatten(1))
            vectors = codebook.vectors[rows.codes[0]].double()
            part = vectors[None, :, head * size : (head + 1) * size]
            sets = mapper.references.double().reshape(-1, mapper.heads, R, size)[:, head, None]
            costs = [unit_cost(part, references, mapper.setting.cost)[0].cpu().numpy() for references in sets]
        return cls(
            cost=costs[0],
            rows=rows.row[0].view(codes.shape[1:]).cpu().numpy(),
            names=rows.codes[0].cpu().numpy(),
            tokens=part[0].cpu().numpy(),
            receiving_cost=costs[1] if len(costs) > 1 else None,
        )

    def solve(self, epsilon: float, *, tolerance: float = 1e-4, max_iterations: int = 1000) -> TransportPlan:
        """The entropic plan (1, K, R). It does not warn: whoever looks at it looks at `converged` and the error too."""
        cost, source, target = (torch.from_numpy(x) for x in (self.cost, self.source[None], self.target))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return solve_transport(
                cost, source, target, epsilon=epsilon, tolerance=tolerance, max_iterations=max_iterations
            )

    @cached_property
    def exact(self) -> Float[np.ndarray, "K R"]:
        """The cheapest plan, without entropy, by POT's network simplex."""
        import ot  # on demand: it takes seconds to import

        return ot.emd(self.source, self.target * (self.source.sum() / self.target.sum()), self.cost)

    def convergence(
        self, epsilon: float, *, tolerance: float = 1e-4, max_iterations: int = 1000
    ) -> tuple[Int64[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
        """The solver's marginal error after 0, 1, 2, 3, 4, 6, 8, 12 ... iterations, up to the last one it needs.

        Each point is a solution of its own, stopped there: what is drawn is what the solver does.
        """
        stops = sorted({0, max_iterations, *(2**n for n in range(32)), *(3 * 2**n for n in range(31))})
        iterations, errors = [], []
        for stop in (stop for stop in stops if stop <= max_iterations):
            solved = self.solve(epsilon, tolerance=tolerance, max_iterations=stop)
            iterations.append(int(solved.iterations[0]))
            errors.append(float(solved.marginal_error[0]))
            if iterations[-1] < stop or solved.converged:
                break
        return np.array(iterations), np.array(errors)

    def marginal_error(self, plan: Float[np.ndarray, "K R"]) -> float:
        """L1 distance of a plan's column sums from the target, as a share of the mass."""
        return float(np.abs(plan.sum(0) - self.target).sum() / self.target.sum())

    def relation(
        self, plan: Float[np.ndarray, "K R"], row: int, receiving: Float[np.ndarray, "K R"] | None = None
    ) -> Float[np.ndarray, "h w"]:
        """What a pixel of `row` takes from each pixel of the image: a row of the doubly stochastic N R S T^T.

        T sends and S receives; without a plan of its own for the latter, S = T. More generally, for any masses,
        (S / a) diag(1 / c) T^T, spread over the pixels of each row: it adds up to 1.
        """
        taken = plan if receiving is None else receiving
        return ((taken[row] / self.source[row] / self.target.clip(1e-30)) @ self._by_pixel(plan).T)[self._rows]

    def attention(self, row: int) -> Float[np.ndarray, "h w"]:
        """What softmax attention gives a pixel of `row` from each pixel, on the same tokens: it adds up to 1.

        Queries and keys are the tokens themselves, normalised as a transformer does: softmax(<q, k> / sqrt(d)).
        """
        tokens = self.normed_tokens
        scores = (tokens @ tokens[row] / tokens.shape[1] ** 0.5)[self._rows]
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()

    @property
    def normed_tokens(self) -> Float[np.ndarray, "K d"]:
        """The vector of each row, normalised as a transformer does.

        Raises:
            ValueError: there are none.
        """
        if self.tokens is None:
            raise ValueError("attention needs the vector of each row, got no tokens; give them")
        return F.layer_norm(torch.from_numpy(self.tokens), self.tokens.shape[1:]).numpy()

    def coverage(self, plan: Float[np.ndarray, "K R"], reference: int) -> Float[np.ndarray, "h w"]:
        """The share of a reference's mass that comes from each pixel, or goes to it, by a plan of receiving."""
        return self._by_pixel(plan)[:, reference][self._rows] / max(self.target[reference], 1e-30)

    @property
    def _rows(self) -> Int64[np.ndarray, "h w"]:
        if self.rows is None:
            raise ValueError("a pixel's share needs to know its row, got no rows; give the row of each pixel")
        return self.rows

    def _by_pixel(self, plan: Float[np.ndarray, "K R"]) -> Float[np.ndarray, "K R"]:
        """The part of a row that one of its pixels holds."""
        return plan / np.bincount(self._rows.ravel(), minlength=len(plan)).clip(1)[:, None]


def codebook_and_mapper(model: SegmentationModel) -> tuple[Codebook, L2GMapper]:
    """The two parts of a model that decide its plans.

    Raises:
        ValueError: the model does not have both.
    """
    if model.codebook is None or model.mapper is None:
        raise ValueError("this model has no transport plan; use one that has, as l2gnet")
    return model.codebook, model.mapper
