"""The voxels of a NIfTI file, scaled and as they are stored: nothing large is read before the header is checked."""

import gzip
import math
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from l2gnet.checks import nearest_path
from l2gnet.data.formats.nifti_header import checked_fields, geometry_of, parsed_header, world_affine
from l2gnet.data.names import NIFTI
from l2gnet.errors import volume_error
from l2gnet.shapes import Float, Num

MAX_BYTES = 2 * 2**30  # of one volume, as stored and as float32
DEFLATE_RATIO = 1032  # no deflate stream expands further (zlib, technical details)


@np.errstate(all="ignore")  # every number is checked, so that numpy's warnings would add nothing
def load_voxels(
    path: Path, channel: int | None = None, *, of: int = 0, frames: bool = False
) -> tuple[Num[np.ndarray, "_ _ _ T"], Float[np.ndarray, "4 4"], nib.Nifti1Header, float]:
    """Return scaled voxels, affine and geometry as stored, and the step between the values that the file can hold.

    The step is 0 where it has no scale factor, or stores floats; `of` is how many channels there must be, if not 0.
    VolumeError: it is damaged, or too large.
    """
    path = nifti_path(path)
    if not path.is_file():
        raise volume_error(path, "the image must be an existing file", "none", f"check the path{nearest_path(path)}")
    zipped = path.suffix.lower() == ".gz"
    try:
        size = path.stat().st_size
        with gzip.open(path) if zipped else path.open("rb") as stream:
            header = parsed_header(path, stream.read(nib.Nifti2Header.sizeof_hdr))
            shape, dtype, offset, (slope, inter) = checked_fields(path, header, channel, of, frames)
            count = math.prod(shape)
            offset += (channel or 0) * count * dtype.itemsize  # the channels lie one after the other
            end = offset + count * dtype.itemsize
            if end > (size * DEFLATE_RATIO if zipped else size):
                value = f"{size} bytes{' compressed' if zipped else ''} for {shape} voxels of {dtype.name}"
                raise volume_error(path, "the file must hold what its header claims", value, "copy or export it again")
            if max(end, 4 * count) > MAX_BYTES:
                rule = f"a volume may take {MAX_BYTES // 2**30} GiB as float32"
                raise volume_error(path, rule, f"{shape} voxels of {dtype.name}", "crop or resample it first")
            geometry = geometry_of(header)
            affine = world_affine(path, geometry, shape[:3])
            stream.seek(offset)
            data = stream.read(count * dtype.itemsize)
            while stream.tell() < MAX_BYTES and stream.read(2**20):
                pass  # on to the end of the file, where gzip compares its checksum
    except (OSError, EOFError, zlib.error) as error:
        raise volume_error(path, "the file must be readable to its end", error, "copy or export it again") from error
    if len(data) < count * dtype.itemsize:
        value = f"{len(data)} of {count * dtype.itemsize} bytes of voxels"
        raise volume_error(path, "the file must hold what its header claims", value, "copy or export it again")
    voxels = np.frombuffer(data, dtype).reshape(shape, order="F")
    if (slope, inter) != (1.0, 0.0):
        voxels = voxels.astype(np.float64) * slope + inter
    return voxels, affine, geometry, abs(slope) if (slope, inter) != (1.0, 0.0) and dtype.kind in "iu" else 0.0


def nifti_path(path: str | Path) -> Path:
    """The path of a NIfTI file; raises VolumeError for another suffix."""
    path = Path(path)
    if not path.name.lower().endswith(NIFTI):
        raise volume_error(path, "the name must end in .nii or .nii.gz", path.name, "convert or rename it")
    return path
