"""Single arrays from npz and HDF5 files of strangers: numbers only, of a bounded size, from that file alone."""

import math
import zipfile
from pathlib import Path

import numpy as np

from l2gnet.data.formats.nifti_voxels import DEFLATE_RATIO, MAX_BYTES
from l2gnet.errors import VolumeError, volume_error
from l2gnet.shapes import Num


def read_npz(path: Path, name: str, dimensions: int) -> Num[np.ndarray, "..."]:
    """The array `name` of an npz file; no pickle is opened, and nothing is allocated before its header is checked.

    Raises VolumeError where the file is damaged or has no such array of numbers with so many dimensions.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read_header[np.lib.format.read_magic(stream)](stream)
            size = _checked_size(path, name, shape, dtype, dimensions)
            data = stream.read(size + 1)
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes for {shape} values of {dtype.name}")
    except VolumeError:
        raise
    except Exception as error:  # a file can be wrong in as many ways as zip, deflate, a Python literal and NumPy know
        raise _unreadable(path, name, error) from error
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_h5(path: Path, name: str, dimensions: int) -> Num[np.ndarray, "..."]:
    """The data set `name` of an HDF5 file; one that lies in another file, by link or by storage, is refused.

    Raises VolumeError where the file is damaged or has no such array of numbers with so many dimensions.
    """
    import h5py  # here, as few folders need it and a start should not wait for it

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
                raise ValueError(f"the data sets {sorted(file)[:5]}")
            data = file[name]
            if data.external or data.is_virtual:
                raise ValueError("data stored in another file")
            size = _checked_size(path, name, data.shape, data.dtype, dimensions)
            _checked_size(path, name, data.chunks or (), data.dtype, len(data.chunks or ()))
            stored = data.id.get_storage_size()
            if size > stored * DEFLATE_RATIO:  # HDF5 makes up what was never stored
                raise ValueError(f"{stored} bytes for {data.shape} values of {data.dtype.name}")
            return data[()]
    except VolumeError:
        raise
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise _unreadable(path, name, error) from error


def _checked_size(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, dimensions: int) -> int:
    """Bytes of the array, after all that its description must hold."""
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise volume_error(path, f"the array {name!r} must hold integers or floats", dtype.name, "save numbers only")
    if len(shape) != dimensions or min(shape, default=1) < 1:
        rule = f"the array {name!r} must have {dimensions} dimensions, each positive"
        raise volume_error(path, rule, f"shape {shape}", "save a slice (H, W) as npz, a volume (D, H, W) as h5")
    count = math.prod(shape)
    if 4 * count > MAX_BYTES or count * dtype.itemsize > MAX_BYTES:
        rule = f"a volume may take {MAX_BYTES // 2**30} GiB as float32"
        raise volume_error(path, rule, f"{shape} values of {dtype.name}", "crop or resample it first")
    return count * dtype.itemsize


def _unreadable(path: Path, name: str, error: Exception) -> VolumeError:
    return volume_error(path, f"the file must hold a readable array {name!r}", str(error)[:200], "copy it again")
