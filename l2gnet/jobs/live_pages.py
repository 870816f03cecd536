"""The pages of `l2gnet app`: what is imported for them is imported when the first visitor is there."""

from pathlib import Path
from typing import TYPE_CHECKING

from l2gnet.jobs.live import LiveViewer

if TYPE_CHECKING:
    from l2gnet.widgets.viewer import Viewer


def app_pages(model: str = "") -> list[LiveViewer]:
    """A desk where a scan is segmented, and the workbench: of one model, or of those that come along."""

    def desk() -> "Viewer":
        from l2gnet.widgets.scan_desk import ScanDesk, example_hearts

        return ScanDesk(model or "phantom-heart", None if model else example_hearts())

    def bench(name: str) -> LiveViewer:
        def make() -> "Viewer":
            from l2gnet.widgets.workbench import Workbench

            return Workbench(name)

        words = "What the model finds, its codes and plans, and what becomes of it when one interferes."
        return LiveViewer(make, f"Workbench: {Path(name).stem}", words)

    words = "Drop a scan, or try a made heart: labels to look at and to take away, volumes, function, and doubts."
    names = [model] if model else ["phantom-heart", "phantom-abdomen"]
    return [LiveViewer(desk, "Segment a scan", words), *map(bench, names)]
