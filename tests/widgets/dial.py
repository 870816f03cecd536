"""The smallest viewer, for tests of the ground that all viewers stand on."""

from pathlib import Path

import traitlets
from l2gnet.widgets.viewer import Viewer
from matplotlib.figure import Figure


class Dial(Viewer):
    script = str(Path(__file__).with_suffix(""))
    angle = traitlets.Int().tag(sync=True)

    def draw(self):
        figure = Figure(figsize=(2, 1))
        figure.text(0.5, 0.5, str(self.angle))
        return figure

    def _on_turn(self, by):
        self.angle += by

    def _on_jam(self):
        raise RuntimeError("the dial is stuck")
