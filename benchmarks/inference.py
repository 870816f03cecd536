"""From a scan's file to its labels' file, and one network run in every way that it can be; interleaved, medians.

Run `OMP_NUM_THREADS=1 python benchmarks/inference.py` where the extra `export` is installed. The heart has the size of
a volume of ACDC, and is seen by the model of the profile `acdc-cpu`, trained for an epoch on the phantom. The CT is
stretched to 148 x 512 x 512 voxels and seen at 224 x 224 by models of random weights whose codes have had their start:
only their time counts. CPU time is what programs that run beside it disturb least.

"by MONAI" is the same network under MONAI's sliding-window inferer: the scan resampled as a whole, windows of the
model's size over each slice, and back. TransUNet is the published one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from monai.inferers import SlidingWindowInferer

from l2gnet.data.folders.scan import ABDOMEN_HU
from l2gnet.data.folders.synapse import CLASSES as ORGANS
from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import make_abdomen, make_heart
from l2gnet.data.resampling import image_on_grid
from l2gnet.data.volume import read_frames, read_labels, read_volume, write_labels
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.export import write_export
from l2gnet.prediction.inference import network_input, segment
from l2gnet.prediction.segmenter import Segmenter, write_prediction
from l2gnet.training.run import train
from l2gnet.training.settings import Precision, TrainSettings

ACDC_CPU = TrainSettings(
    patients=24, size_px=128, spacing_mm=1.5, width=16, codes=256, code_dim=64, references=64, epochs=1
)
CT_SHAPE = (148, 512, 512)
SLICES = 8  # that pass a network at once, as in `l2gnet predict`

Way = Callable[[Path], object]
Network = Callable[[torch.Tensor], torch.Tensor]


def in_turns(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, tuple[float, float]]:
    """Median seconds of CPU and of the clock of each way, all in turns; the first of several warms up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            way()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: tuple(median(column) for column in zip(*(of[1:] or of), strict=True)) for name, of in times.items()}


def save_scan(path: Path, voxels: np.ndarray, spacing_mm: tuple[float, float, float]) -> Path:
    """Voxels (D, H, W) as a scanner stores them: 16 bits, along right, anterior and superior, compressed."""
    stored = voxels.round().astype(np.int16)[:, ::-1, ::-1].transpose(2, 1, 0)
    nib.Nifti1Image(stored, np.diag([*spacing_mm[::-1], 1.0])).to_filename(path)
    return path


def save_random(path: Path, scan: Path, grid: Grid, classes: tuple[str, ...], name: str, **settings: object) -> Path:
    """A model of random weights whose normalisations and codes fit a scan, and which finds every class somewhere."""
    torch.manual_seed(0)
    model = build_model(name, classes=len(classes), **settings)
    volume = read_volume(scan)
    images = network_input(image_on_grid(volume, grid)[:: max(1, len(volume.array) // 4)])
    with torch.no_grad():
        for _ in range(2):
            model.train()(images)
        model.eval().head.bias -= model(images).mean((0, 2, 3))
    save_checkpoint(path, model, ModelCard(name, {"classes": len(classes), **settings}, classes, grid))
    return path


def predicted(model: Path, scan: Path, precision: Precision = "32-true") -> Way:
    segmenter = Segmenter(model, batch_size=SLICES, precision=precision)

    def way(out: Path) -> None:
        write_prediction(out, segmenter.predict(read_frames(scan), "scan"))

    return way


def by_monai(model: Path, scan: Path) -> Way:
    network, card = load_checkpoint(model)
    grid = card.grid
    windows = SlidingWindowInferer((grid.size_px, grid.size_px), sw_batch_size=SLICES)

    @torch.inference_mode()
    def way(out: Path) -> None:
        volume = read_volume(scan)
        low, high = grid.window or np.percentile(volume.array, (0.5, 99.5))
        size = [grid.size_px, grid.size_px]
        if grid.spacing_mm:
            sides = zip(volume.shape[1:], volume.spacing_mm[1:], strict=True)
            size = [round(pixels * mm / grid.spacing_mm) for pixels, mm in sides]
        labels = []
        for slices in torch.from_numpy(np.ascontiguousarray(volume.array)).split(SLICES):
            scaled = ((slices - low) / (high - low)).clamp(0, 1)[:, None]
            seen = F.interpolate(scaled, size, mode="bilinear", antialias=True)
            scores = F.interpolate(windows(seen, network).softmax(1), volume.shape[1:], mode="bilinear")
            labels.append(scores.argmax(1).to(torch.uint8))
        write_labels(out / "scan_labels.nii.gz", volume.like(torch.cat(labels).numpy()))

    return way


def first_slice(model: Path, scan: Path) -> Way:
    """From the file to the labels of the middle slice."""
    network, card = load_checkpoint(model)

    def way(out: Path) -> None:
        volume = read_volume(scan)
        middle = volume.array[len(volume.array) // 2][None]
        segment([network], replace(volume, array=middle), card.grid)

    return way


def whole_cases(title: str, ways: dict[str, Way], folder: Path, turns: int) -> None:
    times = in_turns({name: lambda name=name: ways[name](folder / name) for name in ways}, turns)
    first = next(iter(ways))
    print(f"\n{title}, file to file, median of {turns} turns\n")
    print("| | CPU (s) | ratio | wall (s) | volumes a minute of CPU | voxels of another label |")
    print("|---|---|---|---|---|---|")
    for name, (cpu, wall) in times.items():
        written = folder / name / "scan_labels.nii.gz"
        same_network = written.exists() and name.startswith(first) and name != first
        other = different(folder / first / written.name, written) if same_network else ""
        print(
            f"| {name} | {cpu:.2f} | {cpu / times[first][0]:.2f} | {wall:.2f} | {60 / cpu:.1f} | {other} |", flush=True
        )


def different(one: Path, other: Path) -> str:
    a, b = read_labels(one).array, read_labels(other).array
    return f"{(a != b).sum():,} of {((a > 0) | (b > 0)).sum():,}"


def whole_command(model: Path, scan: Path, folder: Path) -> None:
    """The command by itself, start and imports included: its time, and the most memory that it held."""
    words = ["l2gnet", "predict", str(model), str(scan), "-o", str(folder / "command")]
    # A child's resource usage would count its parent's memory too; /proc does not.
    code = f"import sys; from l2gnet.cli.main import main; sys.argv = {words}; main(); "
    code += "print(open('/proc/self/status').read())"
    before, start = os.times(), time.perf_counter()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    after, wall = os.times(), time.perf_counter() - start
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    peak = int(told.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    print(f"\n`l2gnet predict`, the whole command: {cpu:.1f} s of CPU, {wall:.1f} s wall, peak memory {peak:.0f} MB")


def networks(model: Path, folder: Path) -> dict[str, Network]:
    """Every way to run one network."""
    network, card = load_checkpoint(model)
    for name in ("model.pt2", "model.onnx"):
        write_export(folder / name, network, card)
    exported = torch.export.load(folder / "model.pt2").module()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def in_bf16(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(images)

    return {
        "eager, channels-last, as `l2gnet predict`": network,
        "eager, weights in torch's own order": load_checkpoint(model)[0].to(memory_format=torch.contiguous_format),
        "torch.compile": torch.compile(load_checkpoint(model)[0], dynamic=False),
        "torch.export": lambda images: exported(images)["logits"],
        "ONNX Runtime": lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0]),
        "eager, bf16 autocast": in_bf16,
    }


@torch.no_grad()
def network_table(title: str, model: Path, scan: Path, folder: Path, turns: int) -> None:
    ways = networks(model, folder)
    images = network_input(image_on_grid(read_volume(scan), load_checkpoint(model)[1].grid))[-SLICES:]
    first = next(iter(ways))
    expected = ways[first](images).argmax(1)
    one, many = (
        in_turns({name: lambda way=way, batch=batch: way(batch) for name, way in ways.items()}, turns)
        for batch in (images[len(images) // 2][None], images)
    )
    print(f"\n{title}, CPU time, median of {turns} turns\n")
    print(f"| | one slice (ms) | ratio | {len(images)} slices (ms) | ratio | pixels of another label |")
    print("|---|---|---|---|---|---|")
    for name, way in ways.items():
        cells = " | ".join(f"{1000 * t[name][0]:.0f} | {t[name][0] / t[first][0]:.2f}" for t in (one, many))
        print(f"| {name} | {cells} | {int((way(images).argmax(1) != expected).sum()):,} |", flush=True)


def all_tables(
    what: str, size_px: int, model: Path, transunet: Path, scan: Path, folder: Path, turns: int, whole_turns: int
) -> None:
    """The network, whole cases and the command on one scan, by l2gnet of width 16 and by TransUNet."""
    network_table(f"{what}'s slices at {size_px} x {size_px}, l2gnet of width 16", model, scan, folder, turns)
    ways = {
        "l2gnet, width 16": predicted(model, scan),
        "l2gnet, width 16, bf16": predicted(model, scan, "bf16-mixed"),
        "l2gnet, width 16, by MONAI": by_monai(model, scan),
        "TransUNet": predicted(transunet, scan),
        "one slice only, l2gnet": first_slice(model, scan),
    }
    whole_cases(f"{what} of {read_volume(scan).shape}", ways, folder, whole_turns)
    whole_command(model, scan, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heart", type=Path, help="a volume of ACDC; without it the phantom")
    parser.add_argument("--model", type=Path, help="a model of the profile acdc-cpu; without it one is trained briefly")
    parser.add_argument("--ct", type=Path, help="any CT; without it the phantom")
    parser.add_argument("--turns", type=int, default=8, help="turns, the first to warm up; a quarter for whole CTs")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        heart = arguments.heart
        if heart is None:
            shape, spacing_mm = (10, 256, 216), (10.0, 1.5, 1.5)
            heart = save_scan(folder / "heart.nii.gz", make_heart(1, shape=shape).image, spacing_mm)
        ct = read_volume(arguments.ct).array if arguments.ct else make_abdomen(1).image
        stretched = F.interpolate(torch.from_numpy(np.array(ct, np.float32))[None, None], CT_SHAPE, mode="trilinear")
        scan = save_scan(folder / "ct.nii.gz", stretched[0, 0].numpy(), (2.5, 0.8, 0.8))

        small = arguments.model or train(ACDC_CPU, folder / "run").run_dir / "model.safetensors"
        classes = load_checkpoint(small)[1].classes
        whole = Grid(0.0, 224)
        transunet = save_random(folder / "t4.safetensors", heart, whole, classes, "transunet", variant="published")
        all_tables("A heart", 128, small, transunet, heart, folder, arguments.turns, arguments.turns)

        body = Grid(0.0, 224, ABDOMEN_HU)
        l2gnet = save_random(folder / "l9.safetensors", scan, body, ORGANS, "l2gnet")
        transunet = save_random(folder / "t9.safetensors", scan, body, ORGANS, "transunet", variant="published")
        all_tables("A CT", 224, l2gnet, transunet, scan, folder, arguments.turns, max(1, arguments.turns // 4))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
