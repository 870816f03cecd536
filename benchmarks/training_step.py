"""Time of a training step of `l2gnet` against `unet` on the same backbone, interleaved, medians.

Run `python benchmarks/training_step.py`. A step is what training does with a batch: augmentation, forward, loss,
backward, optimiser. Both models see the same batches.
"""

import argparse
import time
from statistics import median

import torch

from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")


class Step:
    def __init__(self, model: str, width: int, precision: str):
        settings = TrainSettings(model=model, width=width, codes=256, code_dim=64, references=64)
        self.task = SegmentationTask(settings, CLASSES, 1).train()
        self.task.log = lambda *_, **__: None  # the task stands alone here, without a trainer
        self.optimiser = torch.optim.AdamW(self.task.parameters(), lr=1e-3)
        self.precision = precision

    def seconds(self, batch: tuple[torch.Tensor, ...]) -> float:
        start = time.perf_counter()
        self.optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            loss = self.task.training_step(batch, 0)
        loss.backward()
        self.optimiser.step()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=16, help="slices a step")
    parser.add_argument("--steps", type=int, default=15, help="counted steps of each model")
    arguments = parser.parse_args()
    shape = (arguments.batch, arguments.size, arguments.size)
    print(f"batch {shape}, {torch.get_num_threads()} threads, median of {arguments.steps} interleaved steps")
    print(f"{'width':>5} {'precision':>10} {'unet (ms)':>10} {'l2gnet (ms)':>12} {'ratio':>6}")
    for width in (16, 32):
        for precision in ("32-true", "bf16-mixed"):
            torch.manual_seed(0)
            steps = [Step(model, width, precision) for model in ("unet", "l2gnet")]
            times: list[list[float]] = []
            for repeat in range(arguments.steps + 3):
                slices = torch.randint(0, 256, shape, dtype=torch.uint8)[:, None]
                batch = slices, torch.randint(0, len(CLASSES), shape, dtype=torch.uint8), torch.zeros(len(slices))
                pair = [step.seconds(batch) for step in steps]
                if repeat >= 3:  # the first ones warm up, and start the codebook
                    times.append(pair)
            unet, l2gnet = (1000 * median(column) for column in zip(*times, strict=True))
            ratio = median(pair[1] / pair[0] for pair in times)
            print(f"{width:>5} {precision:>10} {unet:>10.0f} {l2gnet:>12.0f} {ratio:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
