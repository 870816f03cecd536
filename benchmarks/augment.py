"""What test-time augmentation and an ensemble do to Dice: all held-out volumes, the same for each way.

Run `OMP_NUM_THREADS=1 python benchmarks/augment.py path/to/data runs/A/model.safetensors runs/B/model.safetensors`.
The first model is looked at by itself, all of them together are the ensemble.
"""

import argparse

import numpy as np
from tqdm import tqdm

from l2gnet.evaluation.metrics import score_case
from l2gnet.prediction.segmenter import Segmenter
from l2gnet.training.run_folder import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir")
    parser.add_argument("checkpoints", nargs="+")
    arguments = parser.parse_args()
    first, *others = arguments.checkpoints
    dataset = open_run(first, data_dir=arguments.data_dir).dataset
    ways = {"one model": Segmenter(first), "augmented": Segmenter(first, augment=True)}
    if others:
        ways["ensemble"] = Segmenter(first, *others)
    scores: dict[str, list[float]] = {way: [] for way in ways}
    for case in tqdm(dataset.validation):
        scan, truth = case.load()
        for way, segmenter in ways.items():
            seen = segmenter.predict([scan], case.name)
            structures = score_case(seen.labels[0].array, truth.array, dataset.classes, truth.spacing_mm)
            dice = float(np.nanmean([score.dice for score in structures]))
            scores[way].append(dice)
    plain = np.array(scores["one model"])
    print("| way | Dice | volumes better | Dice gained, median |\n|---|---|---|---|")
    for way, values in scores.items():
        dice, gain = np.array(values), np.array(values) - plain
        better = f"{(gain > 0).sum()} of {len(gain)}"
        print(f"| {way} | {dice.mean():.4f} | {better} | {np.median(gain):+.4f} |")


if __name__ == "__main__":
    main()
