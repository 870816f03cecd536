"""What decides what a workbench shows: plain values, to be kept as JSON and given back."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import traitlets
from l2gnet.widgets.viewer import Viewer

from l2gnet.errors import ConfigError
from l2gnet.inspection.changes import Interventions
from l2gnet.inspection.plan_order import Order

Overlay = Literal[
    "none",
    "prediction",
    "truth",
    "right and wrong",
    "changed",
    "models differ",
    "confidence",
    "codes",
    "reference",
    "relation",
]
STATE = (
    "scan",
    "plane",
    "selection",
    "overlay",
    "opacity",
    "outline",
    "window",
    "head",
    "order",
    "plan_view",
    "interventions",
)


class BenchState(Viewer):
    """A viewer with the state of a workbench."""

    scan = traitlets.Int(0, min=0).tag(sync=True)
    plane = traitlets.Int(0, min=0, max=2).tag(sync=True)
    overlay = traitlets.Enum(get_args(Overlay), "prediction").tag(sync=True)
    opacity = traitlets.Float(0.55, min=0, max=1).tag(sync=True)
    outline = traitlets.Bool(False).tag(sync=True)
    window = traitlets.List(traitlets.Float(), minlen=2, maxlen=2, default_value=[0.0, 1.0]).tag(sync=True)
    head = traitlets.Int(0, min=0).tag(sync=True)
    order = traitlets.Enum(get_args(Order), "label").tag(sync=True)
    plan_view = traitlets.Enum(("flow", "matrices"), "flow").tag(sync=True)
    interventions = traitlets.Dict().tag(sync=True)

    @property
    def state(self) -> dict[str, Any]:
        """All that decides what is shown, as plain values."""
        return {name: getattr(self, name) for name in STATE}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        unknown = sorted(set(state) - set(STATE))
        if unknown:
            raise ConfigError(f"a state has {', '.join(STATE)}, got {unknown[0]!r}; copy one from a workbench")
        if "interventions" in state:  # a few of them do; the browser needs them all
            state = {**state, "interventions": Interventions.from_json(state["interventions"]).to_json()}
        before = self.state
        try:
            self._take(state)
        except traitlets.TraitError as error:
            raise ConfigError(f"a state must hold values as a workbench has them: {error}; copy one") from error
        except Exception:
            self._take(before)  # all of a state, or nothing of it
            raise

    def _take(self, state: Mapping[str, Any]) -> None:
        """Take over all at once, as from the browser: a voxel may lie in the scan that comes with it alone."""
        with self.hold_sync(), self.hold_trait_notifications():
            for name, value in state.items():
                setattr(self, name, value)
