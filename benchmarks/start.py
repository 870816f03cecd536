"""What a command costs before it does anything useful: CPU time of fresh processes, beside that of torch's import.

Run `OMP_NUM_THREADS=1 python benchmarks/start.py`, a few minutes. Every command is run once a round, in turn, so that
what else the machine does falls on all; the table has medians, and what each is as a share of torch's. With `--data
FOLDER`, of ACDC for one, also what `data check` takes beyond reading its files with nibabel.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from l2gnet.cli.group import Group
from l2gnet.cli.main import VERBS
from l2gnet.data.grid import Grid
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint

TORCH = "import torch"
IMPORTS = (TORCH, "import l2gnet", "from l2gnet import L2GMapper, solve_transport")
NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "01_train.ipynb"
MISTAKES = (
    "trian",
    "train --epocs 3",
    "train --model vnet",
    "train --data acdc --data-dir nowhere",
    "data check nowhere",
    f"run {NOTEBOOK} -p epocs 3",
    f"run {NOTEBOOK} --profile dmeo",
    "sweep nowhere",
    "report nowhere",
    "seeds nowhere",
    "app nowhere",
    "privacy check nowhere",
    "info nowhere",
    "predict nowhere nowhere -o out",
    "evaluate nowhere nowhere",
    "export nowhere model.onnx",
)
FIRST_WORK = ("info model.safetensors", "predict model.safetensors damaged.nii -o out", "evaluate model.safetensors .")
READ = """import sys
from pathlib import Path
import nibabel, numpy
for file in Path(sys.argv[1]).rglob("*.nii.gz"):
    if not file.stem.endswith("_4d.nii"):
        numpy.asanyarray(nibabel.load(file).dataobj)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="a data folder to check")
    arguments = parser.parse_args()
    l2gnet = (sys.executable, "-m", "l2gnet")
    lines = {code: (sys.executable, "-c", code) for code in IMPORTS}
    lines |= {line: (*l2gnet, *line.split()) for line in (*helps(VERBS), *MISTAKES, *FIRST_WORK)}
    if arguments.data:
        folder = str(arguments.data.resolve())
        lines |= {
            "read the files": (sys.executable, "-c", READ, folder),
            "data check": (*l2gnet, "data", "check", folder),
        }
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        rounds = [{name: cpu_s(line, folder) for name, line in lines.items()} for _ in range(arguments.rounds)]
    spent = {name: statistics.median(seconds[name] for seconds in rounds) for name in lines}
    print("| command | CPU (s) | of torch's import |\n|---|---|---|")
    for name, seconds in spent.items():
        print(f"| `{name.replace(str(NOTEBOOK), NOTEBOOK.name)}` | {seconds:.2f} | {seconds / spent[TORCH]:.2f} |")


def helps(group: Group, words: str = "") -> Iterator[str]:
    """The command lines that ask for help: of a group, and of all its verbs."""
    yield f"{words} --help".strip()
    for name, verb in group.verbs.items():
        line = f"{words} {name}".strip()
        yield from helps(verb, line) if isinstance(verb, Group) else [f"{line} --help"]


def write_files(folder: Path) -> None:
    """A model, and a scan that cannot be read: `predict` comes as far as its first scan."""
    settings = {"classes": 4, "width": 8}
    card = ModelCard("l2gnet", settings, ("background", "a", "b", "c"), Grid(2.0, 96))
    save_checkpoint(folder / "model.safetensors", build_model("l2gnet", **settings), card)
    (folder / "damaged.nii").write_bytes(b"damaged")


def cpu_s(line: tuple[str, ...], folder: str) -> float:
    """User and system time of a process, with the processes it waited for."""
    process = subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
