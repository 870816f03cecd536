"""Pictures of what training sees."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from l2gnet.widgets.pictures import draw_legend, draw_outlines, save_figure
from matplotlib.figure import Figure

from l2gnet.data.volume import IGNORED
from l2gnet.training.look import Seen


def plot_seen(rows: Mapping[str, Seen], labels: Sequence[str]) -> Figure:
    """A line of slices for each entry, from black at 0 to white at 1, with the outlines of their labels.

    Of several channels the first is shown. What is ignored is hatched.
    """
    count = max(len(seen.titles) for seen in rows.values())
    size = (1.6 * max(count, 4), 0.7 + 1.65 * len(rows))
    figure, panels = plt.subplots(len(rows), count, figsize=size, layout="constrained", squeeze=False)
    for number, (name, seen) in enumerate(rows.items()):
        line = panels[number]
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=9)
        for axes, image, truth, title in zip(line, seen.images, seen.labels, seen.titles, strict=True):
            axes.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="none")
            draw_outlines(axes, truth * (truth != IGNORED))
            if (truth == IGNORED).any():
                axes.contourf(truth == IGNORED, levels=[0.5, 1], colors="none", hatches=["////"])
            axes.set_title(title if number == 0 else "", fontsize=9)
            axes.set_axis_off()
    draw_legend(figure, labels)
    return figure


def save_seen(path: Path, rows: Mapping[str, Seen], labels: Sequence[str]) -> None:
    """Write the picture as PNG."""
    save_figure(path, plot_seen(rows, labels), dpi=130)
