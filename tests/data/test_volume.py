import gzip
import itertools
import math
import resource
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l2gnet.data.volume import Volume, read_channels, read_labels, read_volume, require_same_grid, write_labels
from l2gnet.errors import VolumeError

HEADER_BYTES = 348
SPL = [[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]


def nifti(array, affine=None, kind=nib.Nifti1Header, endianness="<", **fields):
    """The bytes of a NIfTI file, written without nibabel's checks so that any header field can be wrong."""
    affine = np.diag([-0.8, -0.9, 5.0, 1.0]) if affine is None else np.asarray(affine, float)
    header = kind(endianness=endianness)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["sform_code"], header["xyzt_units"], header["vox_offset"] = 1, 2, header.sizeof_hdr + 4
    for name, value in fields.items():
        header[name] = value
    voxels = array.astype(array.dtype.newbyteorder(endianness)).tobytes(order="F")
    return header.binaryblock + bytes(4) + voxels


def save(path, *args, **fields) -> Path:
    data = nifti(*args, **fields)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def rotation(x_deg, y_deg=0, z_deg=0):
    def about(axis, degrees):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.eye(3)
        turn[np.ix_(axis, axis)] = [[c, -s], [s, c]]
        return turn

    return about([1, 2], x_deg) @ about([2, 0], y_deg) @ about([0, 1], z_deg)


def grid(turn, spacing_mm):
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing_mm
    affine[:3, 3] = 11.0, -7.0, 30.0
    return affine


def stored_as(array, affine, axes, flips):
    """The same scan with its axes stored in another order, some of them backwards."""
    moved = np.transpose(array, axes)
    to_old_index = np.zeros((4, 4))
    to_old_index[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        to_old_index[old, new] = -1 if flip else 1
        to_old_index[old, 3] = array.shape[old] - 1 if flip else 0
    return np.flip(moved, [axis for axis in range(3) if flips[axis]]), affine @ to_old_index


SCAN = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 7
LABELS = (np.arange(24, dtype=np.uint8) % 4).reshape(2, 3, 4)
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
TURNS = [(0, 0, 0), (20, -15, 8), (45, 0, 0), (0, 45, 0), (0, 0, 45), (45, 45, 0), (90, 45, 0)]


@pytest.mark.parametrize("spacing_mm", [(0.7, 0.9, 5), (5, 0.7, 0.7), (0.7, 5, 0.7), (1, 1.1, 1.05), (1.2, 1, 1)])
@pytest.mark.parametrize("degrees", TURNS)
def test_all_48_stored_orders_give_one_array(tmp_path, degrees, spacing_mm):
    affine = grid(rotation(*degrees), spacing_mm)
    assert len(ORDERS) == 48
    volumes = [read_volume(save(tmp_path / "a.nii", *stored_as(SCAN, affine, *order))) for order in ORDERS]
    for volume in volumes:
        assert np.array_equal(volume.array, volumes[0].array)
        assert np.allclose(volume.affine, volumes[0].affine, atol=1e-4)


@given(
    quaternion=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
    spacing_mm=st.tuples(*[st.floats(0.3, 10)] * 3),
    order=st.sampled_from(ORDERS),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_voxel_stays_where_it_is_in_the_world(tmp_path, quaternion, spacing_mm, order):
    affine = grid(nib.quaternions.quat2mat(quaternion), spacing_mm)
    volume = read_volume(save(tmp_path / "a.nii", *stored_as(SCAN, affine, *order)))
    index = np.stack([*np.indices(volume.shape), np.ones(volume.shape)]).reshape(4, -1)
    i, j, k, _ = np.linalg.inv(affine) @ volume.affine @ index
    assert np.allclose([i, j, k], np.rint([i, j, k]), atol=1e-3)
    assert np.array_equal(SCAN[tuple(np.rint([i, j, k]).astype(int))], volume.array.ravel())


@pytest.mark.parametrize(
    ("spacing_mm", "codes", "last_stored"),
    [
        ((1, 1, 6), "SPL", (0, 0, -1)),
        ((1, 6, 1), "PIL", (0, 0, 0)),
        ((6, 1, 1), "LIP", (0, 0, 0)),
        ((1, 1, 1), "SPL", (0, 0, -1)),
        ((1.2, 1, 1), "SPL", (0, 0, -1)),
        ((1.21, 1, 1), "LIP", (0, 0, 0)),
    ],
)
def test_display_order(tmp_path, spacing_mm, codes, last_stored):
    # The stored axes run to the right, to anterior and to superior.
    volume = read_volume(save(tmp_path / "a.nii", SCAN, grid(np.eye(3), spacing_mm)))
    assert "".join(nib.aff2axcodes(volume.affine)) == codes
    right_anterior_superior = {"L": 0, "P": 1, "S": 2, "I": 2}
    assert volume.spacing_mm == pytest.approx([spacing_mm[right_anterior_superior[code]] for code in codes])
    assert volume.array[-1, -1, -1] == SCAN[last_stored]


def test_scaling_types_and_byte_order(tmp_path):
    expected = SCAN.transpose(2, 1, 0) * 2.0 - 1024
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        for endianness in "<>":
            for dtype in (np.int16, np.int32, np.float32, np.float64):
                path = save(
                    tmp_path / "a.nii.gz", SCAN.astype(dtype), None, kind, endianness, scl_slope=2, scl_inter=-1024
                )
                array = read_volume(path).array
                assert array.dtype == np.float32
                assert np.array_equal(array, expected)


@pytest.mark.parametrize("slope", [0, np.nan])
def test_slope_zero_or_nan_means_unscaled(tmp_path, slope):
    path = save(tmp_path / "a.nii", SCAN, scl_slope=slope, scl_inter=5)
    assert np.array_equal(read_volume(path).array, SCAN.transpose(2, 1, 0))


def test_trailing_singleton_dimension_is_accepted(tmp_path):
    assert read_volume(save(tmp_path / "a.nii", SCAN[..., None])).shape == (4, 3, 2)


def test_spacing_comes_from_pixdim_where_the_affine_has_unit_columns(tmp_path):
    path = save(tmp_path / "acdc.nii", SCAN, np.diag([-1.0, -1, 1, 1]), pixdim=[1, 1.5, 1.25, 10, 1, 1, 1, 1])
    volume = read_volume(path)
    assert volume.spacing_mm == (10, 1.25, 1.5)
    assert np.array_equal(volume.affine[:, 0], [0, 0, 10, 0])


def test_spacing_comes_from_the_affine_where_pixdim_was_left_at_one(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", SCAN, pixdim=np.ones(8)))
    assert volume.spacing_mm == pytest.approx((5, 0.9, 0.8))


GEOMETRY = ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y")
GEOMETRY += ("qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units")
QFORM = {"sform_code": 0, "qform_code": 1, "quatern_b": 0.1, "quatern_c": -0.2, "quatern_d": 0.3, "qoffset_x": 7.1}


def test_a_qfac_of_0_is_read_as_1(tmp_path):
    sizes = [0.8, 0.9, 5.0, 1, 1, 1, 1]
    zero, one = (
        read_volume(save(tmp_path / f"{qfac}.nii", SCAN, pixdim=[qfac, *sizes], **QFORM)).affine for qfac in (0, 1)
    )
    assert np.array_equal(zero, one)


@pytest.mark.parametrize("fields", [{}, QFORM, {"qform_code": 3, "sform_code": 2}, {"sform_code": 0}])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_return_to_their_own_grid_bit_for_bit(tmp_path, fields, kind, suffix):
    for number, order in enumerate(ORDERS[::7]):
        array, affine = stored_as(LABELS, grid(rotation(20, -15, 8), (0.7, 0.9, 5)), *order)
        path = save(tmp_path / f"{number}{suffix}", array, affine, kind, **fields)
        out = tmp_path / f"{number}_out{suffix}"
        write_labels(out, read_labels(path))
        source, written = nib.load(path), nib.load(out)
        assert np.array_equal(np.asarray(written.dataobj), array)
        assert written.get_data_dtype() == np.uint8
        assert written.affine.tobytes() == source.affine.tobytes()
        for name in GEOMETRY:
            assert written.header[name].tobytes() == source.header[name].tobytes(), name
        assert np.array_equal(read_labels(out).array, read_labels(path).array)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (1, 0.5, 2), (1, 6, 1)])
def test_one_slice_lies_along_d_however_thick_and_returns_to_its_own_grid(tmp_path, spacing_mm):
    coronal = np.random.default_rng(0).integers(0, 4, (5, 1, 7)).astype(np.uint8)
    for order in ORDERS:
        array, affine = stored_as(coronal, grid(rotation(20, -15, 8), spacing_mm), *order)
        labels = read_labels(save(tmp_path / "a.nii", array, affine))
        assert labels.axes == "PIL"
        assert np.array_equal(labels.array[0], coronal[::-1, 0, ::-1].T)
        write_labels(tmp_path / "out.nii", labels)
        written = nib.load(tmp_path / "out.nii")
        assert np.array_equal(np.asarray(written.dataobj), array)
        assert np.array_equal(written.affine, nib.load(tmp_path / "a.nii").affine)


def test_a_prediction_is_written_where_its_image_lies(tmp_path):
    image = read_volume(save(tmp_path / "scan.nii.gz", SCAN))
    prediction = image.like((image.array == SCAN[1, 0, 3]).astype(np.int64))
    write_labels(tmp_path / "prediction.nii.gz", prediction)
    written = np.asarray(nib.load(tmp_path / "prediction.nii.gz").dataobj)
    assert np.argwhere(written).tolist() == [[1, 0, 3]]


def test_a_volume_that_was_no_file_keeps_its_affine(tmp_path):
    affine = np.array(SPL) @ np.diag([5.0, 0.75, 0.5, 1])
    affine[:3, 3] = 1, 2, 3
    write_labels(tmp_path / "a.nii.gz", Volume(LABELS, affine))
    volume = read_labels(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.array, LABELS)
    assert np.array_equal(volume.affine, affine)
    assert nib.load(tmp_path / "a.nii.gz").header.get_xyzt_units()[0] == "mm"


def test_nothing_identifying_is_written(tmp_path):
    secrets = dict.fromkeys(("descrip", "intent_name", "db_name", "aux_file"), b"Jane Doe")
    path = save(tmp_path / "Jane Doe.nii.gz", LABELS, **secrets, toffset=19700101, slice_duration=3)
    image = read_volume(path)
    write_labels(tmp_path / "case.nii.gz", image.like(np.ones(image.shape, np.uint8)))
    written = (tmp_path / "case.nii.gz").read_bytes()
    assert b"Jane Doe" in gzip.decompress(path.read_bytes())
    assert b"Jane" not in gzip.decompress(written)
    assert written[3] == 0  # no gzip flag: neither a file name nor a comment
    assert written[4:8] == bytes(4)  # no time
    header = nib.load(tmp_path / "case.nii.gz").header
    assert header["toffset"] == header["slice_duration"] == 0


def test_a_refused_write_leaves_the_old_file_alone(tmp_path):
    path = save(tmp_path / "a.nii", LABELS)
    before = path.read_bytes()
    labels = read_labels(path)
    with pytest.raises(VolumeError, match=r"a\.nii: labels must be integers in 0\.\.255; found \[256\]"):
        write_labels(path, labels.like(np.full(labels.shape, 256)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(VolumeError, match=r"must end in \.nii"):
        write_labels(tmp_path / "a.png", labels)


def test_like_refuses_another_shape(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", SCAN))
    with pytest.raises(VolumeError, match=r"shape \(4, 3, 2\); found \(4, 3, 3\)"):
        volume.like(np.zeros((4, 3, 3)))


@pytest.mark.parametrize(
    ("array", "fields", "expected"),
    [
        (LABELS.astype(np.float64), {}, LABELS),
        (LABELS.astype(np.int16) * 2, {"scl_slope": 0.5, "scl_inter": 0}, LABELS),
        (LABELS, {"scl_slope": 1, "scl_inter": 252}, LABELS + 252),
    ],
)
def test_exact_integers_are_labels(tmp_path, array, fields, expected):
    labels = read_labels(save(tmp_path / "a.nii", array, **fields)).array
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected.transpose(2, 1, 0))


@pytest.mark.parametrize("value", [0.5, -1, 256, 1e30, np.nan, np.inf, 1.002])
def test_anything_else_is_not_a_label(tmp_path, value):
    array = LABELS.astype(np.float64)
    array[1, 1, 1] = value
    with pytest.raises(VolumeError, match=r"a\.nii: labels must be integers in 0\.\.255; found \["):
        read_labels(save(tmp_path / "a.nii", array))


@pytest.mark.parametrize("top", [3, 13, 40, 104, 200])
def test_labels_that_a_scale_factor_has_rounded_are_those_that_were_meant(tmp_path, top):
    meant = np.random.default_rng(0).integers(0, top + 1, (6, 5, 4)).astype(np.float64)
    meant[0, 0, :2] = top, 0
    image = nib.Nifti1Image(meant, np.diag([-1.0, -1, 1, 1]))
    image.set_data_dtype(np.uint8)  # nibabel chooses the scale factor
    image.to_filename(tmp_path / "a.nii")
    assert not np.array_equal(nib.load(tmp_path / "a.nii").get_fdata(), meant)
    labels = read_labels(tmp_path / "a.nii")
    assert np.array_equal(labels.array, meant.transpose(2, 1, 0))
    assert labels.remarks[0].startswith("its labels were rounded, as ")


def test_labels_whole_but_for_rounding_are_rounded_and_scans_are_not(tmp_path):
    read = read_labels(save(tmp_path / "a.nii", LABELS * 0.99999 - 1e-6))
    assert np.array_equal(read.array, LABELS.transpose(2, 1, 0))
    assert read.remarks == ("its labels were rounded, as -1e-06 to 0",)
    grey = np.arange(24.0).reshape(4, 3, 2)
    for array, fields in (
        (1e-5 * grey, {}),  # a map of small numbers, as of diffusion
        (grey.astype(np.uint8) * 10, {"scl_slope": 0.1, "scl_inter": 0.06}),
        (grey.astype(np.uint8), {"scl_slope": 0.7, "scl_inter": 0}),
        (grey.astype(np.int16), {"scl_slope": 1.5, "scl_inter": 0}),
        (grey, {"scl_slope": 0.4, "scl_inter": 0}),  # floats are not rounded by a scale factor
    ):
        with pytest.raises(VolumeError, match="labels must be integers"):
            read_labels(save(tmp_path / "a.nii", array, **fields))


def test_larger_numbers_are_read_and_written_where_they_are_asked_for(tmp_path):
    path = save(tmp_path / "a.nii", LABELS.astype(np.int32) * 850)
    labels = read_labels(path, largest=65535)
    assert np.array_equal(labels.array, LABELS.transpose(2, 1, 0).astype(int) * 850)
    write_labels(tmp_path / "b.nii", labels, largest=65535)
    assert np.array_equal(nib.load(tmp_path / "b.nii").get_fdata(), LABELS.astype(int) * 850)


SHEARED = np.diag([1.0, 1, 5, 1])
SHEARED[1, 2] = 5 * math.tan(math.radians(25))


@pytest.mark.parametrize(
    ("affine", "pixdim_mm", "remarks"),
    [
        (SHEARED, (1, 1, 5.517), ["its axes meet at 65 degrees and not at 90, as by a tilted gantry"]),
        (np.diag([1.09, 1.09, 1.09, 1]), [1.01] * 3, ["two voxel sizes, 1.01 x 1.01 x 1.01 mm and 1.09 x 1.09"]),
        (np.diag([0.8, 0.9, 5, 1]), (0.801, 0.9, 5), []),
        (np.diag([0.0014, 0.0014, 0.008, 1]), (0.0014, 0.0014, 0.008), ["0.0014 x 0.0014 x 0.008 mm: does its header"]),
    ],
)
def test_a_header_that_may_be_wrong_is_read_with_words(tmp_path, affine, pixdim_mm, remarks):
    path = save(tmp_path / "a.nii", SCAN, affine, pixdim=[1, *pixdim_mm, 1, 1, 1, 1])
    for remark, expected in itertools.zip_longest(read_volume(path).remarks, remarks):
        assert expected in remark


def test_what_is_odd_about_any_channel_is_said(tmp_path):
    for channel, sizes_mm in enumerate(((0.8, 0.9, 5), (0.85, 0.9, 5))):
        save(tmp_path / f"a_{channel:04d}.nii", SCAN, pixdim=[1, *sizes_mm, 1, 1, 1, 1])
    (remark,) = read_channels([tmp_path / "a_0000.nii", tmp_path / "a_0001.nii"]).remarks
    assert "0.85 x 0.9 x 5 mm and 0.8 x 0.9 x 5 mm" in remark


BAD_HEADERS = [
    ({"srow_x": [np.nan, 0, 0, 0]}, "affine must be finite"),
    ({"srow_y": [0, np.inf, 0, 0]}, "affine must be finite"),
    ({"srow_z": [0, 0, 0, 0]}, "affine must be invertible"),
    ({"srow_z": [0, -0.9, 0, 0], "pixdim": np.ones(8)}, "affine must be invertible"),
    ({"sform_code": 0, "qform_code": 1, "quatern_b": 5}, "qform or sform must give an affine"),
    ({"sform_code": 0, "qform_code": 1, "quatern_b": np.nan}, "affine"),
    ({"pixdim": [1, 0.8, 0, 5, 1, 1, 1, 1]}, "voxel sizes must lie in"),
    ({"pixdim": [1, 0.8, -0.9, 5, 1, 1, 1, 1]}, "voxel sizes must lie in"),
    ({"pixdim": [1, 0.8, np.nan, 5, 1, 1, 1, 1]}, "voxel sizes must lie in"),
    ({"pixdim": [1, 0.8, np.inf, 5, 1, 1, 1, 1]}, "voxel sizes must lie in"),
    ({"pixdim": [1, 0.8, 2.9, 5, 1, 1, 1, 1]}, "pixdim and affine must give one voxel size"),
    ({"scl_slope": np.inf}, "scl_slope and scl_inter must be finite"),
    ({"scl_slope": 1, "scl_inter": np.nan}, "scl_slope and scl_inter must be finite"),
    ({"dim": [3, 2, -3, 4, 1, 1, 1, 1]}, "3 dimensions, each positive"),
    ({"dim": [3, 2, 0, 4, 1, 1, 1, 1]}, "3 dimensions, each positive"),
    ({"dim": [0, 2, 3, 4, 1, 1, 1, 1]}, "3 dimensions, each positive"),
    ({"dim": [2, 6, 4, 1, 1, 1, 1, 1]}, "store the slices as one volume"),
    ({"dim": [4, 2, 3, 2, 2, 1, 1, 1]}, "split a series into one file a frame"),
    ({"dim": [3, 2, 3, 5, 1, 1, 1, 1]}, "must hold what its header claims"),
    ({"datatype": 77}, "voxel type must be a NIfTI type"),
    ({"datatype": 32}, "must be integers or floats; found complex64"),
    ({"datatype": 128}, "must be integers or floats"),
    ({"vox_offset": 0}, "vox_offset must be an integer from 352"),
    ({"vox_offset": np.nan}, "vox_offset must be"),
    ({"vox_offset": 3e38}, "must hold what its header claims"),
    ({"xyzt_units": 3}, "xyzt_units must say mm; found 3"),
    ({"sform_code": 257}, r"qform_code and sform_code must be NIfTI's 0..5; found \(0, 257\)"),
    ({"qform_code": -1}, "qform_code and sform_code"),
    ({"magic": b"ni1"}, "must start with the header of a single-file NIfTI"),
    ({"magic": b"GIF"}, "must start with the header of a single-file NIfTI"),
]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("fields", "rule"), BAD_HEADERS)
def test_bad_headers_are_refused(tmp_path, fields, rule, suffix):
    path = save(tmp_path / f"bad{suffix}", SCAN, **fields)
    for read in (read_volume, read_labels):
        with pytest.raises(VolumeError, match=rf"bad{suffix}: .*{rule}") as caught:
            read(path)
        assert str(caught.value).count("; ") >= 2  # rule; found value; remedy


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_voxels_that_are_not_finite_are_refused(tmp_path, value):
    array = SCAN.astype(np.float64)
    array[0, 1, 2] = value
    with pytest.raises(VolumeError, match="finite in float32; found 1 that are not"):
        read_volume(save(tmp_path / "a.nii", array))


def test_files_that_are_no_image_are_refused(tmp_path):
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "empty.nii").touch()
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "text.nii").write_text("not an image")
    (tmp_path / "text.nii.gz").write_text("not an image")
    names = ("missing.nii", "folder.nii", "empty.nii", "empty.nii.gz", "text.nii", "text.nii.gz", "scan.png")
    for name in names:
        with pytest.raises(VolumeError, match=name):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_a_tiny_file_cannot_claim_much_memory(tmp_path, suffix, kind):
    path = save(tmp_path / f"a{suffix}", SCAN, None, kind, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match=r"must hold what its header claims; found \d+ bytes"):
            read_volume(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_volume_above_two_gib_is_refused_before_it_is_read(tmp_path):
    path = save(tmp_path / "a.nii", SCAN.astype(np.uint8), dim=[3, 1024, 1024, 600, 1, 1, 1, 1])
    with path.open("r+b") as stream:
        stream.truncate(2**30)  # sparse: takes no room on the disk
    with pytest.raises(VolumeError, match="may take 2 GiB as float32"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_truncation_is_refused(tmp_path, suffix):
    whole = save(tmp_path / f"whole{suffix}", SCAN).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(VolumeError, match=f"cut{suffix}"):
            read_volume(path)


@given(
    st.lists(st.tuples(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255)), min_size=1, max_size=12), st.booleans()
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_header_raises_anything_but_a_volume_error(tmp_path, changes, zipped):
    data = bytearray(nifti(SCAN))
    for position, byte in changes:
        data[position] = byte
    path = tmp_path / ("a.nii.gz" if zipped else "a.nii")
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    try:
        volume = read_volume(path)
    except VolumeError:
        return
    assert np.isfinite(volume.array).all()
    assert np.isfinite(volume.affine).all()
    assert min(volume.spacing_mm) > 0
    write_labels(tmp_path / "out.nii", volume.like(np.ones(volume.shape, np.uint8)))
    require_same_grid(volume, read_labels(tmp_path / "out.nii"), path, "out.nii")


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_gzip_file_never_passes_for_another_scan(tmp_path, position, change):
    path = save(tmp_path / "a.nii.gz", SCAN)
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= change
    path.write_bytes(data)
    try:
        array = read_volume(path).array
    except VolumeError:
        return
    assert np.array_equal(array, SCAN.transpose(2, 1, 0))


def test_one_grid_however_it_is_stored(tmp_path):
    affine = grid(rotation(20, -15, 8), (0.7, 0.9, 5))
    image = read_volume(save(tmp_path / "image.nii", SCAN, affine))
    for order in ORDERS:
        labels = read_labels(save(tmp_path / "labels.nii", *stored_as(LABELS, affine, *order)))
        require_same_grid(image, labels, "image.nii", "labels.nii")


def test_another_grid_is_refused_with_both_names(tmp_path):
    image = read_volume(save(tmp_path / "image.nii", SCAN))
    for shift_mm, same in ((0.039, True), (0.041, False)):  # a twentieth of 0.8 mm is 0.04 mm
        moved = image.affine.copy()
        moved[0, 3] += shift_mm
        labels = Volume(LABELS.transpose(2, 1, 0), moved)
        if same:
            require_same_grid(image, labels, "image.nii", "labels.nii")
        else:
            with pytest.raises(
                VolumeError, match=r"labels\.nii: the grid must be that of image\.nii; found .*0\.041 mm"
            ):
                require_same_grid(image, labels, "image.nii", "labels.nii")
    far = image.affine.copy()
    far[0, 2] *= 1.05  # agrees at the first voxel of each row, not at the last
    with pytest.raises(VolumeError, match="spacing"):
        require_same_grid(image, Volume(image.array, far), "image.nii", "labels.nii")
    with pytest.raises(VolumeError, match=r"labels\.nii: .*image\.nii; found shape \(3, 3, 2\) against \(4, 3, 2\)"):
        require_same_grid(image, Volume(image.array[1:], image.affine), "image.nii", "labels.nii")


def test_labels_that_find_no_space_leave_no_file(tmp_path):
    labels = Volume(np.random.default_rng(0).integers(0, 9, (10, 40, 40)).astype(np.uint8), np.eye(4))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(VolumeError, match=r"labels\.nii\.gz: the result must be writable; found .*too large"):
            write_labels(tmp_path / "labels.nii.gz", labels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_all_channels_turn_together_and_labels_have_one():
    first = np.arange(24.0).reshape(2, 3, 4)
    scan = Volume(first, np.diag([5.0, 1.0, 1.0, 1.0]), more=(first + 100,))
    turned = scan.turned("PIL")
    assert turned.shape != scan.shape
    assert len(turned.channels) == 2
    assert np.array_equal(turned.more[0], turned.array + 100)
    assert scan.like(first).channels == (first,)
