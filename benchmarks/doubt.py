"""How often scans are flagged as unlike the training data: as they are, and as a worse scanner would have made them.

Run `OMP_NUM_THREADS=1 python benchmarks/doubt.py runs/NAME/model.safetensors path/to/data`. The scans are the volumes
that training held out. What is normal is learnt anew for each patient, from the other patients' volumes alone.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from l2gnet.evaluation.metrics import score_case
from l2gnet.evaluation.shifts import LEVELS, SHIFTS, shifted
from l2gnet.prediction.doubt import find_strange, look_at
from l2gnet.prediction.familiar import Familiar
from l2gnet.prediction.inference import Segmented, segment
from l2gnet.training.run_folder import open_run

MEASURES = {
    "confidence": "the model is sure",
    "distance": "its features lie",
    "surprise": "its codes are unusual",
    "grain": "its grain is",
}
LOSSES = (-1.0, 0.02, 0.05, 0.1, 0.2, 1.0)


@dataclass
class Seen:
    """A scan as the model saw it: whose it is, its mean Dice, and why it is doubted."""

    case: str
    dice: float
    reasons: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("data_dir")
    arguments = parser.parse_args()
    run = open_run(arguments.checkpoint, data_dir=arguments.data_dir)
    cases = run.dataset.validation
    looks = []
    for case in tqdm(cases, desc="as they are"):
        scan, _ = case.load()
        looks.append(look_at(scan, segment([run.model], scan, run.grid), case.patient, run.model))
    table: dict[tuple[str, int], list[Seen]] = defaultdict(list)
    for case in tqdm(cases, desc="shifted"):
        familiar = Familiar.of_looks([look for look in looks if look.patient != case.patient])
        for shift, level in [("as they are", 0), *((shift, level) for shift in SHIFTS for level in LEVELS)]:
            scan, truth = (shifted(case, shift, level) if level else case).load()
            seen: Segmented = segment([run.model], scan, run.grid)
            scores = score_case(seen.labels.array, truth.array, run.dataset.classes, truth.spacing_mm)
            dice = float(np.nanmean([score.dice for score in scores]))
            table[shift, level].append(Seen(case.name, dice, find_strange(scan, seen, [familiar]).reasons))
    report(table)


def report(table: dict[tuple[str, int], list[Seen]]) -> None:
    print(f"\n| shift | level | Dice | flagged | {' | '.join(MEASURES)} |\n|{'---|' * (4 + len(MEASURES))}")
    for (shift, level), scans in table.items():
        parts = [share([any(word in reason for reason in s.reasons) for s in scans]) for word in MEASURES.values()]
        dice, flagged = np.mean([s.dice for s in scans]), share([bool(s.reasons) for s in scans])
        print(f"| {shift} | {level} | {dice:.3f} | {flagged} | {' | '.join(parts)} |")
    before = {scan.case: scan.dice for scan in table["as they are", 0]}
    lost = [(before[s.case] - s.dice, bool(s.reasons)) for (_, level), scans in table.items() if level for s in scans]
    print("\n| Dice lost by the shift | scans | flagged |\n|---|---|---|")
    for low, high in pairwise(LOSSES):
        flags = [flag for loss, flag in lost if low < loss <= high]
        bounds = f"{low:.2f} to {high:.2f}" if low > 0 else f"at most {high:.2f}"
        print(f"| {bounds} | {len(flags)} | {share(flags) if flags else '-'} |")


def share(flags: list[bool]) -> str:
    return f"{100 * np.mean(flags):.0f} %"


if __name__ == "__main__":
    main()
