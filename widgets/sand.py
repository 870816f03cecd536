"""Sand to touch: two piles on a line, the plan that makes one of the other, and how it moves."""

from typing import Any

import numpy as np
import traitlets
from l2gnet.widgets.crisp import as_image
from l2gnet.widgets.sand_pictures import draw_ribbons, pouring
from l2gnet.widgets.viewer import Viewer
from matplotlib.figure import Figure

from l2gnet.inspection.line_transport import line_cost, line_plan, pile
from l2gnet.shapes import Float

_SHOWN = (0.0, 0.01, 0.3)  # the epsilons of the animation
_SOURCE = ((22.0, 9.0, 1.0),)
_TARGET = ((34.0, 6.0, 1.0), (70.0, 8.0, 0.9))


class Sand(Viewer):
    """Move sand from a pile, the source, to another, the target, at the least cost that epsilon allows.

    Drag the bars of a pile, or choose one by the left and right arrow and change it by up and down. Bins are directions
    from 0 to 90 degrees, and moving a grain by an angle costs (1 - cos) / 2; at epsilon 0 the plan is the cheapest. The
    browser finds the plan by itself, without a kernel; `plan` is that of `solve_transport`, to compare.

    Args:
        source: height of each of K bins, at least two; their sum becomes one.
        target: the same for R bins.
        epsilon: weight of the entropy, in units of the cost; 0 for the cheapest plan.
        bins: number of bins of a pile that is not given.

    Raises:
        traitlets.TraitError: a pile has no sand, fewer than two bins, or a height that is negative or not finite;
            epsilon is negative or not finite.
    """

    script = "sand"

    source = traitlets.List(traitlets.Float()).tag(sync=True)
    target = traitlets.List(traitlets.Float()).tag(sync=True)
    epsilon = traitlets.Float(0.01).tag(sync=True)

    def __init__(self, source: Any = None, target: Any = None, *, epsilon: float = 0.01, bins: int = 32):
        heights = (
            pile(bins, *_SOURCE) if source is None else source,
            pile(bins, *_TARGET) if target is None else target,
        )
        source, target = (np.asarray(each, dtype=float).tolist() for each in heights)
        super().__init__(source=source, target=target, epsilon=epsilon)

    @property
    def cost(self) -> Float[np.ndarray, "K R"]:
        """What it costs to move one unit of mass from each bin of the source to each of the target."""
        return line_cost(len(self.source), len(self.target))

    @property
    def plan(self) -> Float[np.ndarray, "K R"]:
        """The plan that is shown, as `solve_transport` finds it; at epsilon 0 the closed form."""
        return line_plan(np.array(self.source), np.array(self.target), self.epsilon)

    def draw(self) -> Figure:
        """The picture of what the viewer shows now, drawn in Python."""
        figure = Figure((9.5, 4), layout="constrained")
        axes = figure.subplots()
        draw_ribbons(axes, self.plan)
        axes.set_title(f"ε = {self.epsilon:g}, cost {(self.plan * self.cost).sum():.4f}", fontsize=10)
        return figure

    def animation(self) -> str:
        """The same piles at three epsilons as an SVG in which the sand moves; no script runs in it."""
        source, target = np.array(self.source), np.array(self.target)
        plans = [line_plan(source, target, epsilon) for epsilon in _SHOWN]
        titles = [
            f"ε = {epsilon:g}{', the cheapest' if epsilon == 0 else ''}: cost {(plan * self.cost).sum():.4f}"
            for epsilon, plan in zip(_SHOWN, plans, strict=True)
        ]
        return pouring(plans, titles, source, target)

    @traitlets.validate("source", "target")
    def _shares(self, proposal: dict[str, Any]) -> list[float]:
        heights = np.array(proposal["value"], dtype=float)
        name = proposal["trait"].name
        if len(heights) < 2 or not np.isfinite(heights).all() or (heights < 0).any() or heights.sum() == 0:
            raise traitlets.TraitError(
                f"{name} must hold at least two finite heights, none of them negative and not all of them 0, got "
                f"{proposal['value']}"
            )
        # A pile that is one already stays as it is, so that the browser's does not come back changed by rounding.
        return heights.tolist() if abs(heights.sum() - 1) < 1e-9 else (heights / heights.sum()).tolist()

    @traitlets.validate("epsilon")
    def _weight(self, proposal: dict[str, Any]) -> float:
        if not 0 <= proposal["value"] < np.inf:
            raise traitlets.TraitError(f"epsilon must be at least 0 and finite, got {proposal['value']}")
        return proposal["value"]

    def __repr__(self) -> str:
        return f"Sand: {len(self.source)} bins to {len(self.target)}, epsilon {self.epsilon:g}"

    def _still(self) -> str:
        return as_image(self.animation(), "sand moves from the source to the target at three epsilons")
