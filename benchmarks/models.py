"""Parameters and time of one picture for all six models, matched and published, interleaved, medians.

Run `OMP_NUM_THREADS=1 python benchmarks/models.py`. The pictures are slices of the phantom, and codebooks have had
their k-means start on them: how long L2GNet takes depends on how many codes a picture uses. Time is CPU time, which
programs that run beside it disturb less.
"""

import argparse
import time
from statistics import median

import torch
from torch.optim.swa_utils import update_bn

from l2gnet.data.dataset import open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.slices import load_slices
from l2gnet.models import MODELS, build_model
from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.inference import network_input
from l2gnet.training.settings import TrainSettings


def started(name: str, variant: str, images: torch.Tensor) -> SegmentationModel:
    """A model whose normalisations and codes fit the images, as if it had been trained."""
    torch.manual_seed(0)
    model = build_model(name, variant=variant)
    with torch.no_grad():
        update_bn([images, images], model)  # once for the codes to start, once for what follows them
    return model.eval()


def milliseconds(model: SegmentationModel, image: torch.Tensor) -> float:
    model(image)  # the model before it has left its own weights in the caches
    start = time.process_time()
    model(image)
    return 1000 * (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--turns", type=int, default=9, help="counted turns of each model")
    arguments = parser.parse_args()
    settings = TrainSettings(patients=4, validation_patients=1, size_px=arguments.size, spacing_mm=1.0)
    slices = load_slices(settings, open_dataset(settings), Grid(settings.spacing_mm, settings.size_px))
    images = network_input(slices.images[:: len(slices.images) // 8][:8])
    print(f"one picture of {arguments.size} x {arguments.size}, {torch.get_num_threads()} threads, CPU time,")
    print(f"median of {arguments.turns} interleaved turns; ratios to unet of the same variant")
    print(f"{'variant':>10} {'model':>11} {'parameters':>12} {'ratio':>6} {'time (ms)':>10} {'ratio':>6} {'codes':>6}")
    for variant in ("matched", "published"):
        models = {name: started(name, variant, images) for name in MODELS}
        turns: list[dict[str, float]] = []
        with torch.inference_mode():
            for turn in range(arguments.turns + 1):
                image = images[turn % len(images)][None]
                turns.append({name: milliseconds(model, image) for name, model in models.items()})
            codes = {name: model.trace(images).latent.codes for name, model in models.items()}
        turns = turns[1:]  # the first one warms up
        size = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
        for name in MODELS:
            used = codes[name]
            distinct = "" if used is None else f"{median(len(picture.unique()) for picture in used):.0f}"
            ratio = median(turn[name] / turn["unet"] for turn in turns)
            print(
                f"{variant:>10} {name:>11} {size[name]:>12,} {size[name] / size['unet']:>6.2f} "
                f"{median(turn[name] for turn in turns):>10.1f} {ratio:>6.2f} {distinct:>6}",
                flush=True,
            )


if __name__ == "__main__":
    main()
