import io
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l2gnet.data.formats.arrays import read_h5, read_npz
from l2gnet.errors import VolumeError

GOOD = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "u1", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_numbers_survive_npz(tmp_path, compressed, dtype, order):
    array = np.asarray(GOOD, dtype=dtype, order=order)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", image=array, other=GOOD + 1)
    found = read_npz(tmp_path / "a.npz", "image", 2)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": (1, 2), "shuffle": True}])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1"])
def test_any_numbers_survive_h5(tmp_path, options, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", data=GOOD.astype(dtype), **options)
    assert np.array_equal(read_h5(tmp_path / "a.h5", "image", 2), GOOD.astype(dtype))


def archive(path, content, name="image.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)


def npy(array, **header):
    """The bytes of an npy file, with another header if so asked."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {**np.lib.format.header_data_from_array_1_0(array), **header})
    return stream.getvalue() + array.tobytes()


def test_what_is_no_array_of_numbers_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    for content, message in [
        (npy(GOOD, shape=(10**6, 10**6)), r"a volume may take 2 GiB as float32; found \(1000000, 1000000\) values"),
        (npy(GOOD, shape=(3, 5)), r"readable array 'image'; found 48 bytes for \(3, 5\) values of float32"),
        (npy(GOOD, shape=(3, 3)), "readable array 'image'; found 37 bytes"),
        (npy(GOOD, shape=(12,)), r"must have 2 dimensions, each positive; found shape \(12,\)"),
        (npy(GOOD, shape=(0, 4)), r"must have 2 dimensions, each positive; found shape \(0, 4\)"),
        (npy(GOOD, descr="|O"), "must hold integers or floats; found object"),
        (npy(GOOD, descr="<c8"), "must hold integers or floats; found complex64"),
        (npy(GOOD, descr="<U4"), "must hold integers or floats; found str"),
        (npy(GOOD, shape="all"), "readable array 'image'"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "readable array 'image'"),
        (b"\x93NUMPY\x09\x00", "readable array 'image'"),
        (b"", "readable array 'image'"),
    ]:
        archive(path, content)
        with pytest.raises(VolumeError, match=rf"a\.npz: the array 'image' {message}|a\.npz: .*{message}"):
            read_npz(path, "image", 2)


def test_no_pickle_is_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    np.savez(tmp_path / "a.npz", image=np.array([[Trap()]], dtype=object))
    with pytest.raises(VolumeError, match="must hold integers or floats; found object"):
        read_npz(tmp_path / "a.npz", "image", 2)
    assert not (tmp_path / "sprung").exists()


def test_missing_and_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(VolumeError, match=r"a\.npz: the file must hold a readable array 'image'; found .*No such file"):
        read_npz(path, "image", 2)
    archive(path, npy(GOOD), name="label.npy")
    with pytest.raises(VolumeError, match=r"found .*no item named 'image\.npy'"):
        read_npz(path, "image", 2)
    path.write_bytes(b"PK not really")
    with pytest.raises(VolumeError, match="found File is not a zip file"):
        read_npz(path, "image", 2)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans())
def test_a_flipped_byte_is_refused_or_changes_numbers_only(tmp_path, data, hdf5):
    path = tmp_path / ("a.h5" if hdf5 else "a.npz")
    if hdf5:
        with h5py.File(path, "w") as file:
            file["image"] = GOOD
    else:
        np.savez_compressed(path, image=GOOD)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = (read_h5 if hdf5 else read_npz)(path, "image", 2)
    except VolumeError:
        return
    assert found.ndim == 2
    assert found.dtype.kind in "iuf"


def test_h5_data_of_other_files_is_not_read(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["image"] = GOOD
    (tmp_path / "secret.bin").write_bytes(GOOD.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("secret.h5", "image")
        file["soft"] = h5py.SoftLink("/linked")
        file.create_dataset("stored", (3, 4), "f4", external=[(str(tmp_path / "secret.bin"), 0, 48)])
        layout = h5py.VirtualLayout((3, 4), "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "image", (3, 4))
        file.create_virtual_dataset("virtual", layout)
        file.create_group("group")
    for name, message in [
        ("linked", "found the data sets"),
        ("soft", "found the data sets"),
        ("group", "found the data sets"),
        ("image", r"found the data sets \['group', 'linked', 'soft', 'stored', 'virtual'\]"),
        ("stored", "found data stored in another file"),
        ("virtual", "found data stored in another file"),
    ]:
        with pytest.raises(VolumeError, match=rf"a\.h5: the file must hold a readable array '{name}'; {message}"):
            read_h5(tmp_path / "a.h5", name, 2)


def test_h5_data_is_bounded_and_of_numbers(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("large", (2**15, 2**15, 2), "f4", chunks=(1, 2**15, 1))  # nothing is stored of it
        file.create_dataset("chunk", (1, 1), "f4", maxshape=(None, None), chunks=(2**15, 2**14 + 1))
        file["text"] = [["a", "b"]]
        file["flat"] = GOOD[0]
        file.create_dataset("hollow", (2**10, 2**11), "f4", chunks=(2**10, 1))[0, 0] = 1
    with pytest.raises(VolumeError, match=r"a volume may take 2 GiB as float32; found \(32768, 32768, 2\)"):
        read_h5(tmp_path / "a.h5", "large", 3)
    with pytest.raises(VolumeError, match="a volume may take 2 GiB"):
        read_h5(tmp_path / "a.h5", "chunk", 2)
    with pytest.raises(VolumeError, match=r"found 4096 bytes for \(1024, 2048\) values of float32"):
        read_h5(tmp_path / "a.h5", "hollow", 2)
    with pytest.raises(VolumeError, match="must hold integers or floats; found object"):
        read_h5(tmp_path / "a.h5", "text", 2)
    with pytest.raises(VolumeError, match=r"must have 2 dimensions, each positive; found shape \(4,\)"):
        read_h5(tmp_path / "a.h5", "flat", 2)
    (tmp_path / "b.h5").write_bytes(b"nonsense")
    with pytest.raises(VolumeError, match=r"b\.h5: the file must hold a readable array 'image'; found .*signature"):
        read_h5(tmp_path / "b.h5", "image", 2)
