"""The transport of one image, to look at: its plan at any epsilon, whom a pixel is related to, and what attention does.

Everything is computed in float64 on the rows of the plan, one a code, or one a token of those that receive by
themselves; what a pixel shows is gathered from them.
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
from l2gnet.models.backbone import SegmentationModel, SegmentationUNet
from l2gnet.models.blocks.discrete import TokenBottleneck
from l2gnet.shapes import Float, Float32, Int64


class ImageTransport:
    """From the codes of one image to references: the problem whose solution is the plan.

    Where tokens send by one plan and receive by another, this is the problem of sending and `receiving` the other one;
    where one plan serves both, `receiving` is the problem itself. Codes send; those who receive are codes too, or the
    tokens as they were before quantisation, each with a row of its own.

    Args:
        cost: price of moving one unit of mass from a row (a code) to a reference.
        rows: for each bottleneck pixel of the image, its row of the plan; None without an image.
        source: mass of each row, adding up to 1; by default the share of the pixels that have it.
        target: mass of each reference, adding up to 1; by default 1/R.
        names: of the rows, for example their indices in the codebook; by default 0..K-1.
        tokens: the vector of each row, for softmax attention on the same tokens.
        receiving: the problem of receiving, where that is another one; with the same rows, or one a pixel, in order.

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
        receiving: "ImageTransport | None" = None,
    ):
        K, R = cost.shape
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
        self.receiving = self if receiving is None else receiving
        self._require_receiving()

    @classmethod
    def of_model(
        cls, model: SegmentationModel, image: Float32[torch.Tensor, "1 C H W"], *, head: int = 0
    ) -> "ImageTransport":
        """The problems that a model's mapper solves for an image, with a row for each code that the image uses.

        Where its tokens receive, that of receiving has a row for each of them.

        Raises:
            ValueError: the model has no mapper, or not so many heads, or the image is not one.
        """
        codebook, mapper = codebook_and_mapper(model)
        if not 0 <= head < mapper.heads:
            raise ValueError(f"head must lie in 0..{mapper.heads - 1}, the heads of the mapper, got {head}")
        if image.ndim != 4 or len(image) != 1:
            raise ValueError(f"image must be a batch of one, (1, C, H, W), got {tuple(image.shape)}")
        R, size = mapper.references.shape[-2:]
        with torch.inference_mode(), evaluating(model):
            codes = model.trace(image).latent.codes
            assert codes is not None  # a codebook gives them
            rows = rows_of_codes(codes.flatten(1))
            sets = mapper.references.double().reshape(-1, mapper.heads, R, size)[:, head, None]

            def problem(
                references: torch.Tensor,
                vectors: torch.Tensor,
                row: torch.Tensor,
                names: torch.Tensor,
                receiving: ImageTransport | None = None,
            ) -> ImageTransport:
                part = vectors.double()[None, :, head * size : (head + 1) * size]
                return cls(
                    cost=unit_cost(part, references, mapper.setting.cost)[0].cpu().numpy(),
                    rows=row.view(codes.shape[1:]).cpu().numpy(),
                    names=names.cpu().numpy(),
                    tokens=part[0].cpu().numpy(),
                    receiving=receiving,
                )

            by_code = codebook.vectors[rows.codes[0]], rows.row[0], rows.codes[0]
            receiving = None
            if model.tokens_receive:
                assert isinstance(model, SegmentationUNet)  # no other has tokens that receive
                assert isinstance(model.bottleneck, TokenBottleneck)
                tokens = model.bottleneck.tokens(model.encoded(image)[-1])[0]
                receiving = problem(sets[1], tokens, torch.arange(len(tokens)), codes.flatten())
            elif len(sets) > 1:
                receiving = problem(sets[1], *by_code)
            return problem(sets[0], *by_code, receiving)

    @property
    def tokens_receive(self) -> bool:
        """Whether tokens receive, so that a plan of receiving has other rows: one for each pixel, in order."""
        rows, others = self.rows, self.receiving.rows
        return rows is not others if rows is None or others is None else not np.array_equal(rows, others)

    def by_code(self, receiving: Float[np.ndarray, "_ R"]) -> Float[np.ndarray, "K R"]:
        """A plan of receiving with the rows of the one that sends: summed over the tokens of each code."""
        if not self.tokens_receive:
            return receiving
        summed = np.zeros_like(self.cost)
        np.add.at(summed, self._rows.ravel(), receiving)
        return summed

    def row_of(self, pixel: tuple[int, int]) -> int:
        """The row that a bottleneck pixel (row, column) has."""
        return int(self._rows[pixel])

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
        self, plan: Float[np.ndarray, "K R"], row: int, receiving: Float[np.ndarray, "_ R"] | None = None
    ) -> Float[np.ndarray, "h w"]:
        """What a pixel of `row` takes from each pixel of the image: a row of the doubly stochastic N R S T^T.

        T sends and S receives; without a plan of its own for the latter, S = T. The row is one of S: the pixel itself,
        where tokens receive. More generally, for any masses, (S / a) diag(1 / c) T^T, spread over the pixels of each
        row: it adds up to 1.
        """
        taken, source = (plan, self.source) if receiving is None else (receiving, self.receiving.source)
        return ((taken[row] / source[row] / self.target.clip(1e-30)) @ self._by_pixel(plan).T)[self._rows]

    def attention(self, row: int) -> Float[np.ndarray, "h w"]:
        """What softmax attention gives a pixel of `row` from each pixel, on the same codes: it adds up to 1.

        Queries and keys are what is sent (of tokens their codes), normalised as a transformer does: softmax(<q, k> /
        sqrt(d)).
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

    def _require_receiving(self) -> None:
        other, length = self.receiving, len(self.source)
        if self.tokens_receive:
            length = self._rows.size
            if not np.array_equal(other._rows, np.arange(length).reshape(self._rows.shape)):
                raise ValueError("receiving must have the rows of the plan that sends, or one for each pixel, in order")
        if len(other.source) != length or not np.array_equal(other.target, self.target):
            shape = (length, len(self.target))
            raise ValueError(f"receiving must have the cost {shape} and the same target, got {other.cost.shape}")

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
    if model.mapper is None:
        raise ValueError("a model must have transport plans, got one without; use one that has, as l2gnet")
    if model.codebook is None:
        raise ValueError("a model must have a codebook, got one whose tokens stay as they are (codes 0); use another")
    return model.codebook, model.mapper
