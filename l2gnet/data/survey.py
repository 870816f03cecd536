"""What a data set is made of, volume by volume and together: sizes, spacings, grey values, structures, axes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes
from tqdm.auto import tqdm

from l2gnet.data.dataset import DataSet
from l2gnet.data.formats.nifti_header import world_affine
from l2gnet.data.sides import wrong_sides

_DARK, _BRIGHT = 0.5, 99.5  # percentiles, those that MR is shown between


@dataclass(frozen=True)
class Surveyed:
    """What one volume is.

    `grey_values` are the 0.5th and 99.5th percentile of each channel, in the units of its file. `axes` are the world
    directions of the file's own axes, as in "LAS"; empty for what was no file. A file is `mirrored` if they are
    left-handed, which is read rightly here, but not by programs that pass over the header. `doubts` say, in words,
    where left and right contradict the header, and what the reader was not sure of. Without a voxel size volumes are
    unknown, too: nan, but for what is not there.
    """

    name: str
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    grey_values: Mapping[str, tuple[float, float]]
    structures_ml: Mapping[str, float]
    axes: str
    mirrored: bool
    doubts: tuple[str, ...]

    def as_row(self) -> dict[str, Any]:
        """For a table with a row for each volume; sizes and spacings along D, H, W."""
        mm = self.spacing_mm or ("", "", "")
        row: dict[str, Any] = {"volume": self.name}
        row |= {f"size_{axis}": voxels for axis, voxels in zip("DHW", self.size, strict=True)}
        row |= {f"spacing_{axis}_mm": side and f"{side:.5g}" for axis, side in zip("DHW", mm, strict=True)}
        for channel, (dark, bright) in self.grey_values.items():
            row |= {f"{channel}_dark": f"{dark:.5g}", f"{channel}_bright": f"{bright:.5g}"}
        row |= {f"{name}_ml": "" if np.isnan(ml) else f"{ml:.5g}" for name, ml in self.structures_ml.items()}
        return row | {"axes": self.axes, "mirrored": self.mirrored, "doubts": "; ".join(self.doubts)}


def survey(dataset: DataSet) -> list[Surveyed]:
    """Read every volume of a data set, and say what it is.

    Raises:
        VolumeError: a file is damaged, or a mask does not belong to its image.
    """
    structures = dataset.regions.labels_of(len(dataset.classes))
    found = []
    for case in tqdm(dataset.cases, desc="look", unit="volume", leave=False):
        image, labels = case.load()
        grey = [tuple(np.percentile(channel, (_DARK, _BRIGHT)).tolist()) for channel in image.channels]
        voxel_ml = abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000 if image.has_mm else np.nan
        counts = np.bincount(labels.array.ravel(), minlength=256)
        stored = np.eye(4) if image.stored is None else world_affine(Path(), image.stored)
        found.append(
            Surveyed(
                name=case.name,
                size=image.shape,
                spacing_mm=image.spacing_mm if image.has_mm else None,
                grey_values=dict(zip(dataset.channels, grey, strict=True)),
                structures_ml={
                    name: float(voxels * voxel_ml) if (voxels := counts[list(own)].sum()) else 0.0
                    for name, own in zip(dataset.classes[1:], structures, strict=True)
                },
                axes="" if image.stored is None else "".join(aff2axcodes(stored)),
                mirrored=bool(np.linalg.det(stored[:3, :3]) < 0),
                doubts=(*image.remarks, *labels.remarks, *wrong_sides(labels, dataset.classes, dataset.regions)),
            )
        )
    return found


def summary(found: Sequence[Surveyed]) -> list[dict[str, str]]:
    """A table with a row for each property: its least, its middle and its largest value, and in how many volumes."""
    rows = []

    def add(what: str, values: Sequence[float]) -> None:
        known = np.array(values, dtype=float)
        known = known[np.isfinite(known)]
        if len(known):
            least, middle, most = (f"{value:.4g}" for value in (known.min(), np.median(known), known.max()))
            rows.append({"": what, "least": least, "middle": middle, "most": most, "volumes": str(len(known))})

    for number, axis in enumerate("DHW"):
        add(f"size {axis}", [one.size[number] for one in found])
    for number, axis in enumerate("DHW"):
        add(f"spacing {axis} (mm)", [one.spacing_mm[number] for one in found if one.spacing_mm])
    for channel in found[0].grey_values:
        add(f"{channel}, dark", [one.grey_values[channel][0] for one in found])
        add(f"{channel}, bright", [one.grey_values[channel][1] for one in found])
    for name in found[0].structures_ml:
        add(f"{name} (ml)", [ml for one in found if (ml := one.structures_ml[name]) > 0])
    return rows


def remarks(found: Sequence[Surveyed]) -> list[str]:
    """In words: how the files lie, what lacks a structure, and every doubt."""
    said = []
    for (axes, mirrored), count in Counter((one.axes, one.mirrored) for one in found if one.axes).most_common():
        what = f"{axes}, left-handed (mirrored)" if mirrored else axes
        said.append(f"axes {what}: {count} of {len(found)} files")
    for name in found[0].structures_ml:
        if without := sum(one.structures_ml[name] == 0 for one in found):
            said.append(f"no {name}: {without} of {len(found)} volumes")
    return [*said, *(f"{one.name}: {doubt}" for one in found for doubt in one.doubts)]
