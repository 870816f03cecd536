"""Draw the picture of the architecture in the documentation, with one heart in it: `tests/draw_architecture.py`.

It is the diagram of `07_method_step_by_step` as it is before anybody opens a box. Look at it before you commit it.
"""

from pathlib import Path

from l2gnet.widgets.architecture import Architecture

from l2gnet.files import write_text
from l2gnet.inspection.seen_scan import see_scan
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.prediction.inference import network_input
from l2gnet.training.run_folder import open_run

OUT = Path(__file__).parent.parent / "docs" / "architecture.svg"


def main() -> None:
    """The shipped model and the first heart that it has not seen, where most of it is heart."""
    model, card = load_checkpoint("phantom-heart")
    scan, truth = open_run("phantom-heart").dataset.validation[0].load()
    seen = see_scan(model, card, scan, truth)
    index = int((seen.labels > 0).sum(axis=(1, 2)).argmax())
    diagram = Architecture(model, network_input(seen.images[[index]]), seen.labels[index])
    write_text(OUT, diagram.svg() + "\n")
    print(f"{OUT}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
