"""`l2gnet codes`: the codes and plans of scans, for whoever analyses them elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from l2gnet.checks import MOST, require
from l2gnet.errors import ConfigError

if TYPE_CHECKING:
    from l2gnet.data.inputs import Input
    from l2gnet.data.volume import Volume


def codes(
    model: Annotated[Path, tyro.conf.Positional],
    scans: Annotated[list[Path], tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    batch_size: int = 8,
) -> None:
    """Write the codes of scans, and for l2gnet their plans, as NIfTI, npz and csv.

    All numbers begin at 0. Of each scan NAME, on its own grid: NAME_codes.nii.gz, the code of each voxel (-1 where the
    model did not look); NAME_sent_to.nii.gz and NAME_received_from.nii.gz, the reference that takes the most of a voxel
    by the plan that sends, and by that which receives, a volume for each head. As numbers: NAME_codes.npz (codes,
    affine, histogram; sending, receiving, row_codes), NAME_histogram.csv (the codes of each slice) and NAME_plan.csv
    (the mass from each code to each reference, mean of all slices). Where tokens receive by themselves, the plan that
    receives is given as the sum over those of each code. A symmetric relation has one plan, sending; other
    models have none.

    Args:
        model: A checkpoint with a codebook, a run folder, or the name of a model that comes along.
        scans: As for predict: NIfTI files, enhanced DICOM files, or folders of those or of DICOM series.
        out: Folder that gets the files; of a cine each frame has its own, NAME_codes_frame01.nii.gz and so on.
        batch_size: Slices that pass the network at once.
    """
    require(1 <= batch_size <= MOST, "batch_size", f"from 1 to {MOST}", batch_size)
    from l2gnet.models.card import read_card

    card = read_card(model)
    from l2gnet.cli.scans import each_scan, end_with, named_scans

    found = named_scans(scans, card.channels)
    from l2gnet.inspection.scan_codes import codes_of_scan, write_codes
    from l2gnet.models.checkpoint import load_checkpoint
    from l2gnet.prediction.inference import best_device
    from l2gnet.prediction.segmenter import require_frames

    network, _ = load_checkpoint(model)
    if network.codebook is None:
        rule = "a model must have a codebook for its pixels to have codes"
        raise ConfigError(f"{model}: {rule}, got {card.model} without one; name l2gnet, vq_unet or synergynet")
    network.to(best_device())

    def write(scan: "Input", frames: "list[Volume]") -> None:
        require_frames(frames, scan.name, card)
        seen = [codes_of_scan(network, card, frame, batch_size=batch_size) for frame in frames]
        write_codes(out, scan.name, seen)
        used = sum(frame.histogram.sum(0) for frame in seen) > 0
        slices = sum(len(frame.codes) for frame in seen)
        print(f"{scan.name}: {used.sum()} of {len(used)} codes in {slices} slices")

    failed = each_scan(found, write)
    print(f"results: {out}")
    end_with(failed, found, "given codes")
