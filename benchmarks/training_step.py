"""What codes and plans cost in a training step, against `unet` on the same backbone: interleaved, medians of ratios.

Run `OMP_NUM_THREADS=1 python benchmarks/training_step.py`. A step is what training does with a batch: augmentation,
forward, loss, backward, optimiser. All forms see the same batches.
"""

import argparse
import time
from statistics import median

import torch

from l2gnet.training.memory import keep_freed_memory
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
FORMS = {
    "unet": {"model": "unet"},
    "l2gnet: neither codes nor plans": {"codes": 0, "relation": "none"},
    "l2gnet: codes": {"relation": "none"},
    "l2gnet: codes send, tokens receive": {},
    "l2gnet: codes send and receive": {"receivers": "codes"},
    "l2gnet: both plans on tokens": {"codes": 0},
    "l2gnet: self-attention on tokens": {"codes": 0, "relation": "attention"},
}
WARM_UP = 3  # the first steps start the codebook


class Step:
    def __init__(self, form: dict, depth: int, width: int, precision: str):
        settings = {"model": "l2gnet", "width": width, "depth": depth, "codes": 256, "code_dim": 64} | form
        self.task = SegmentationTask(TrainSettings(**settings), CLASSES, 1).train()
        self.task.log = lambda *_, **__: None  # the task stands alone here, without a trainer
        self.optimiser = torch.optim.AdamW(self.task.parameters(), lr=1e-3)
        self.precision = precision

    def seconds(self, batch: tuple[torch.Tensor, ...]) -> float:
        start = time.perf_counter()
        self.optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            loss = self.task.training_step(batch, 0)["loss"]
        loss.backward()
        self.optimiser.step()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs="+", default=[96, 224], help="height and width in pixels")
    parser.add_argument("--depth", type=int, nargs="+", default=[2, 4], help="halvings of the resolution")
    parser.add_argument("--width", type=int, default=16, help="channels at full resolution")
    parser.add_argument("--precision", default="32-true", help="32-true or bf16-mixed")
    parser.add_argument("--pixels", type=int, default=16 * 96 * 96, help="of a batch, about")
    parser.add_argument("--steps", type=int, default=11, help="counted steps of each form")
    arguments = parser.parse_args()
    keep_freed_memory()  # as training does
    print(f"width {arguments.width}, {arguments.precision}, {torch.get_num_threads()} threads, {arguments.steps} steps")
    for size in arguments.size:
        for depth in arguments.depth:
            torch.manual_seed(0)
            shape = (max(1, arguments.pixels // size**2), size, size)
            steps = {name: Step(form, depth, arguments.width, arguments.precision) for name, form in FORMS.items()}
            times: dict[str, list[float]] = {name: [] for name in steps}
            for repeat in range(arguments.steps + WARM_UP):
                slices = torch.randint(0, 256, shape, dtype=torch.uint8)[:, None]
                batch = slices, torch.randint(0, len(CLASSES), shape, dtype=torch.uint8), torch.zeros(len(slices))
                for name, step in steps.items():
                    seconds = step.seconds(batch)
                    if repeat >= WARM_UP:
                        times[name].append(seconds)
            print(f"\nbatch {shape}, depth {depth}, {(size // 2**depth) ** 2} tokens")
            print(f"{'':<34} {'ms':>7} {'of unet':>8}")
            for name, own in times.items():
                ratio = median(one / unet for one, unet in zip(own, times["unet"], strict=True))
                print(f"{name:<34} {1000 * median(own):>7.0f} {ratio:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
