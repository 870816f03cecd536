import gc
import io
import subprocess
import sys
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import traitlets
from l2gnet.widgets import SliceViewer
from l2gnet.widgets.planes import planes_of
from l2gnet.widgets.viewer import parts_of
from PIL import Image

from l2gnet.colours import AGREEMENT, COLOURS
from l2gnet.data.volume import Volume, read_frames, read_labels, read_volume

SHAPE = (4, 12, 16)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.float32)


@pytest.fixture
def truth():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2:4, 2:6], labels[2, 2:10, 2:10], labels[3, 4:6, 4:6] = 1, 1, 3
    return labels


@pytest.fixture
def maps(truth):
    late = truth.copy()
    late[1] = 0
    return {"truth": truth, "late": late}


def test_it_opens_where_the_structures_are_largest(front_end, image, maps):
    viewer = SliceViewer(image, maps, spacing_mm=(5, 2, 1), classes=("background", "heart"))
    assert viewer.selection == {"voxel": [2, 6, 6]}
    assert [s["name"] for s in viewer.about["structures"]] == ["heart", "3"]
    assert [s["colour"] for s in viewer.about["structures"]] == [COLOURS[0], COLOURS[2]]
    assert set(viewer.arrays) == {"volume", "labels of truth", "labels of late", "areas", "dice of late"}
    assert viewer.arrays["volume"] == {"version": 1, "dtype": "int16", "shape": list(SHAPE)}
    assert repr(viewer) == "SliceViewer(4 x 12 x 16, truth, late)"


def test_it_jumps_to_the_worst_slice_of_what_is_visible(front_end, image, maps):
    viewer = SliceViewer(image, maps)
    front_end.event(viewer, "jump", to="worst")
    assert viewer.index == 1
    viewer.visible = [3]
    viewer.jump("largest")
    assert viewer.selection == {"voxel": [3, 4, 4]}
    front_end.event(viewer, "jump", to="worst")
    assert (viewer.index, viewer.error) == (3, "")
    viewer.visible = []
    front_end.event(viewer, "jump", to="largest")
    assert viewer.error.startswith("ValueError: jump to the largest slice needs a visible structure")


def test_it_moves_with_linked_viewers(front_end, image, truth):
    one, two = SliceViewer(image), SliceViewer(image, {"truth": truth})
    one.link(two)
    front_end.change(two, selection={"voxel": [3, 0, 0], "code": 5})
    assert (one.index, one.selection["code"]) == (3, 5)
    one.index = 0
    assert two.selection == {"voxel": [0, 0, 0], "code": 5}
    with pytest.raises(ValueError, match=r"index must be a slice in 0\.\.3; got 4"):
        one.index = 4


def test_of_a_selection_in_a_larger_scan_the_nearest_voxel_is_shown(front_end, image, maps):
    large, small = SliceViewer(np.repeat(image, 3, axis=0)), SliceViewer(image, maps)
    small.link(large)
    large.index = 11
    assert (small.index, small.selection["voxel"]) == (3, [11, 6, 6])  # it stays that of both
    assert small.draw().axes[0].get_title().endswith(", 4 of 4")


@pytest.mark.parametrize("kind", ["tensor", "file", "volume"])
def test_it_takes_tensors_files_and_volumes(front_end, tmp_path, image, truth, kind):
    if kind == "tensor":
        viewer = SliceViewer(
            torch.from_numpy(image).half(), {"truth": torch.from_numpy(truth).long()}, orientation="SPL"
        )
    else:
        affine = np.diag([-1.0, -2.0, 5.0, 1.0])  # stored W, H, D; D to superior, H to posterior, W to left
        paths = [tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz"]
        for path, array in zip(paths, (image, truth), strict=True):
            nib.Nifti1Image(array.T, affine).to_filename(path)
        scan, labels = paths if kind == "file" else (read_volume(paths[0]), read_labels(paths[1]))
        viewer = SliceViewer(scan, {"truth": labels})
        assert viewer.about["spacing_mm"] == (5.0, 2.0, 1.0)
    assert viewer.planes[0].letters == ("A", "P", "R", "L")
    assert viewer.selection == {"voxel": [2, 6, 6]}
    assert np.array_equal(viewer.maps["truth"], truth)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"volume": np.zeros((2, 2))}, "the scan must be numbers with the axes"),
        ({"volume": np.full(SHAPE, np.nan)}, "every voxel must be finite"),
        ({"spacing_mm": (1, 1)}, "spacing_mm must be three positive lengths"),
        ({"labels": {"a": np.zeros((4, 12, 15), int)}}, "the label map 'a' must have the scan's shape"),
        ({"labels": {"a": np.full(SHAPE, 0.5)}}, "must hold integers in 0..255"),
        ({"labels": np.zeros(SHAPE, int)}, "labels must be a dict of label maps by name; got ndarray"),
        ({"orientation": "SPP"}, "orientation must name"),
        ({"codes": np.zeros((3, 2, 2), int)}, "codes must be integers"),
    ],
)
def test_wrong_input_is_refused(front_end, as_a_user, image, change, rule):
    with pytest.raises(ValueError, match=rule):
        SliceViewer(**({"volume": image} | change))


def test_no_map_is_shown_that_is_not_there(front_end, image, truth):
    viewer = SliceViewer(image, {"truth": truth})
    with pytest.raises(traitlets.TraitError, match="shown must hold names of the label maps, truth; got 'nope'"):
        viewer.shown = ["truth", "nope"]
    assert viewer.shown == ["truth"]
    with pytest.raises(traitlets.TraitError, match=r"visible must hold labels in 0\.\.3; got 4"):
        viewer.visible = [1, 4]
    assert viewer.visible == [1, 3]


def test_errors_are_those_of_the_first_map_that_is_shown_in_the_order_of_all(front_end, image, maps):
    viewer = SliceViewer(image, {**maps, "best": maps["truth"]})
    viewer.shown = ["best", "truth", "late"]
    assert viewer.shown == ["truth", "late", "best"]
    viewer.jump("worst")
    assert viewer.index == 1


@pytest.mark.parametrize("overlay", ["outline", "fill"])
def test_one_slice_is_drawn_in_three_planes(front_end, image, maps, overlay):
    viewer = SliceViewer(image[2:3], {name: labels[2:3] for name, labels in maps.items()})
    front_end.change(viewer, three_planes=True, overlay=overlay)
    assert len(viewer.draw().axes) == 3


def test_a_file_knows_its_spacing(front_end, tmp_path, image):
    nib.Nifti1Image(image, np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(ValueError, match="spacing_mm must be left out"):
        SliceViewer(tmp_path / "a.nii", spacing_mm=(1, 1, 1))


def drawn(viewer):
    return np.asarray(Image.open(io.BytesIO(viewer.snapshot())).convert("RGB")).astype(int)


def share_of(picture, colour):
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(picture - rgb).max(2) < 8).mean()


def test_the_snapshot_shows_what_the_browser_shows(front_end, image, maps):
    viewer = SliceViewer(image, maps, spacing_mm=(5, 2, 1))
    assert share_of(drawn(viewer), COLOURS[0]) > 0
    viewer.overlay, viewer.opacity = "fill", 1.0
    filled = share_of(drawn(viewer), COLOURS[0])
    assert filled > 0.15
    viewer.visible = [3]
    assert share_of(drawn(viewer), COLOURS[0]) == 0
    viewer.visible, viewer.mode, viewer.side_by_side, viewer.index = [1, 3], "errors", True, 1
    picture = drawn(viewer)
    assert share_of(picture, AGREEMENT["missed"]) > 0.01
    viewer.three_planes = True
    assert drawn(viewer).shape[0] > picture.shape[0]


def test_the_snapshot_shows_errors_first_and_hatches_where_colours_run_out(front_end, image, maps):
    viewer = SliceViewer(image, maps, spacing_mm=(5, 2, 1))
    viewer.mode, viewer.index, viewer.opacity = "errors", 1, 1.0
    assert not viewer.about["hatched"]
    assert share_of(drawn(viewer), AGREEMENT["missed"]) > 0.02
    squares = np.zeros(SHAPE, np.uint8)
    squares[:] = 1 + np.arange(12)[:, None] // 3 * 4 + np.arange(16) // 4
    shifted = squares.copy()
    shifted[:, 4:8, 4:12] = 0
    viewer = SliceViewer(image, {"truth": squares, "shifted": shifted}, spacing_mm=(5, 2, 1))
    viewer.mode, viewer.opacity = "errors", 1.0
    assert viewer.about["hatched"]
    hatched = share_of(drawn(viewer)[40:-40], AGREEMENT["missed"])
    viewer.about = {**viewer.about, "hatched": False}
    assert 0.001 < hatched < share_of(drawn(viewer)[40:-40], AGREEMENT["missed"]) / 2


def test_what_is_not_known_is_no_structure_and_no_error(front_end, image, maps):
    for labels in maps.values():
        labels[:, :, 12:] = 2
    maps["truth"][:, :, 12:] = 255
    viewer = SliceViewer(image, maps, classes=("background", "heart", "lung", "liver"))
    assert viewer.visible == [1, 2, 3]
    viewer.mode, viewer.index, viewer.opacity = "errors", 2, 1.0
    wrong = list(AGREEMENT.values())[1:]
    assert [share_of(drawn(viewer)[40:-60], colour) for colour in wrong] == [0, 0, 0]  # the key is below
    viewer.index = 1
    shares = [share_of(drawn(viewer)[40:-60], colour) for colour in wrong]
    assert (shares[0], shares[1] > 0.01, shares[2]) == (0, True, 0)
    unknown_there = SliceViewer(image, dict(reversed(maps.items())), classes=viewer.classes)
    unknown_there.mode, unknown_there.index, unknown_there.opacity = "errors", 2, 1.0
    assert [share_of(drawn(unknown_there)[40:-60], colour) for colour in wrong] == [0, 0, 0]
    unnamed = SliceViewer(image, {"mask": 255 * (maps["truth"] == 1).astype(np.uint8)})
    assert [s["name"] for s in unnamed.about["structures"]] == ["255"]


def test_a_mask_of_0_and_255_is_compared_as_one_of_0_and_1(front_end, image, truth):
    pictures = []
    for label in (1, 255):
        mask = np.where(truth == 1, label, 0).astype(np.uint8)
        viewer = SliceViewer(image, {"truth": mask, "found": np.roll(mask, 2, axis=2)}, spacing_mm=(5, 2, 1))
        viewer.mode, viewer.opacity = "errors", 1.0
        pictures.append(drawn(viewer)[:-60])  # without the key
    shares = [[share_of(picture, colour) for colour in ("#ffffff", *AGREEMENT.values())] for picture in pictures]
    assert shares[0] == shares[1]
    assert min(shares[1][2:4]) > 0.01


def test_a_code_alone_can_be_selected(front_end, image, truth):
    viewer = SliceViewer(image, {"truth": truth})
    front_end.change(viewer, selection={"code": 3})
    assert (viewer.index, viewer.error) == (2, "")
    assert viewer.snapshot().startswith(b"\x89PNG")
    viewer.visible = []
    viewer.index = 1
    assert viewer.selection == {"code": 3, "voxel": [1, 6, 8]}


def test_nothing_is_told_of_mm_and_sides_that_nobody_knows(front_end, image, truth):
    affine = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    scan, labels = (Volume(array, affine, has_mm=False) for array in (image, truth))
    viewer = SliceViewer(scan, {"truth": labels})
    assert (viewer.about["affine"], viewer.about["unit"]) == (None, "voxels")
    viewer.ruler = [[2, 1, 3], [2, 4, 7]]
    assert viewer.ruler_mm is None
    assert [text.get_text() for text in viewer.draw().axes[0].texts] == ["5.0 voxels", "", "", "", ""]
    oriented = SliceViewer(scan, orientation="SPL")  # by one who knows
    assert oriented.planes[0].letters == ("A", "P", "R", "L")


def test_an_oblique_scan_has_its_sides_as_in_other_viewers(front_end, image):
    affine = np.eye(4)
    affine[:3, :3] = [[-0.65, -0.35, -0.67], [-0.33, -0.66, 0.67], [-0.68, 0.66, 0.32]]  # half one way, half another
    scan = Volume(image, affine)
    assert SliceViewer(scan).planes == planes_of(scan.axes)


def test_the_snapshot_is_zoomed_and_measured_as_in_the_browser(front_end, image, truth):
    viewer = SliceViewer(image, {"truth": truth}, spacing_mm=(5, 2, 1), orientation="SPL")
    assert viewer.ruler_mm is None
    front_end.change(viewer, ruler=[[2, 1, 3], [2, 4, 11]], tool="ruler")
    assert viewer.ruler_mm == 10.0  # 3 rows of 2 mm and 8 columns of 1 mm
    (axes,) = viewer.draw().axes
    assert [text.get_text() for text in axes.texts] == ["10.0 mm", "A", "P", "R", "L"]
    assert np.array_equal(axes.lines[0].get_xydata(), [[3, 1], [11, 4]])
    front_end.change(viewer, looks={"axial": {"zoom": 2.0, "centre": [0.25, 0.5]}})
    (axes,) = viewer.draw().axes
    assert (axes.get_xlim(), axes.get_ylim()) == ((3.5, 11.5), (5.5, -0.5))
    viewer.index = 1
    assert "10.0 mm" not in [text.get_text() for axes in viewer.draw().axes for text in axes.texts]


def test_a_place_is_drawn_where_its_voxel_is(front_end, image):
    for orientation in ("SPL", "IAR", "LSP", "PRI"):
        viewer = SliceViewer(image, spacing_mm=(5, 2, 1), orientation=orientation)
        for plane in viewer.planes:
            row, column = map(int, viewer._placed((1, 7, 4), plane))
            assert plane.slice(image, (1, 7, 4)[plane.axis])[row, column] == image[1, 7, 4]


def test_it_opens_in_a_window_that_shows_the_body(front_end, image):
    body = 400 + image / 10
    padded = np.pad(body, ((0, 0), (40, 40), (40, 40)))  # most of it is air
    for volume in (body, padded):
        low, high = SliceViewer(volume).window
        assert low <= 405
        assert high == pytest.approx(np.percentile(body, 99.5), abs=2)
    assert SliceViewer(padded).window[0] == 0  # and air is black
    assert SliceViewer(np.zeros(SHAPE)).window == [0, 0]
    nearly_empty = np.zeros((4, 64, 64))
    nearly_empty[2, 3, 3] = 5
    assert {low < high for low, high in SliceViewer(nearly_empty).presets.values()} == {True}
    ct = np.full(SHAPE, -1000.0)
    ct[:, 4:8] = 40
    assert SliceViewer(ct).window == [-160, 240]


def test_a_large_volume_is_not_copied_and_only_sent_in_parts(front_end):
    volume = np.zeros((300, 512, 512), np.int16)
    volume[:, 100:200, 100:200] = 500
    volume[0, 0, 0] = -1000
    labels = np.zeros((300, 512, 512), np.uint8)
    labels[140:170, 120:180, 120:180] = 1
    viewer = SliceViewer(volume, {"truth": labels})
    assert "CT lung" in viewer.presets
    assert sum(len(buffer) for *_, buffers in front_end.sent for buffer in buffers or []) == 0
    assert np.shares_memory(viewer._published["volume"], volume)
    assert np.shares_memory(viewer._published["labels of truth"], labels)
    front_end.event(viewer, "fetch", array="volume", version=1, start=150, stop=158)
    assert front_end.fetched(viewer)[0][1] == volume[150:158].tobytes()
    viewer.close()
    references = [weakref.ref(volume), weakref.ref(labels)]
    del volume, labels
    front_end.sent.clear()
    gc.collect()
    assert all(reference() is None for reference in references)  # although `viewer` is still here


def test_the_first_picture_does_not_wait_for_torch():
    code = "import sys; from l2gnet.widgets import SliceViewer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent).returncode == 0


def beat(image, frames=3):
    """Frames of a cine, each brighter than the one before."""
    return np.stack([image + 1000 * moment for moment in range(frames)])


@pytest.mark.parametrize("kind", ["array", "volumes", "file"])
def test_the_frames_of_a_cine_are_shown_in_one_contrast(front_end, tmp_path, image, truth, kind):
    cine, affine = beat(image), np.diag([-1.0, -2.0, 5.0, 1.0])
    found = np.stack([truth, np.zeros_like(truth), truth[::-1]])
    volume, labels = cine, found
    if kind != "array":
        paths = [tmp_path / "cine.nii.gz", tmp_path / "labels.nii.gz"]
        for path, array in zip(paths, (cine, found), strict=True):
            nib.Nifti1Image(array.transpose(3, 2, 1, 0), affine).to_filename(path)
        volume, labels = paths if kind == "file" else map(read_frames, paths)
    always = truth if kind == "array" else read_frames(paths[1])[0]
    viewer = SliceViewer(volume, {"one": labels, "all": always})
    assert viewer.about["frames"] == 3
    assert viewer.window[1] > 2500  # that of the brightest moment
    assert viewer.arrays["volume"] == {"version": 1, "dtype": "int16", "shape": [12, 12, 16], "rows": 4}
    assert "rows" not in viewer.arrays["labels of all"]  # it is one for the whole beat
    front_end.event(viewer, "fetch", array="volume", version=1, start=4, stop=8)
    assert front_end.fetched(viewer)[-1][1] == cine[1].astype(np.int16).tobytes()
    viewer.jump("largest")
    assert viewer.index == 2
    front_end.change(viewer, frame=2)
    viewer.jump("largest")
    assert viewer.index == 1
    (axes,) = viewer.draw().axes
    assert axes.get_title().endswith(", 2 of 4, moment 3 of 3")
    assert np.array_equal(axes.images[0].get_array(), viewer.planes[0].slice(cine[2], 1))
    assert repr(viewer) == "SliceViewer(3 x 4 x 12 x 16, one, all)"
    front_end.change(viewer, frame=3)
    assert "frame must be a moment in 0..2; got 3" in viewer.error
    assert viewer.frame == 2


def test_a_saved_page_keeps_to_the_moment_that_is_shown(front_end, image, truth):
    viewer = SliceViewer(beat(image), {"one": np.stack([truth, 0 * truth, truth]), "all": truth})
    viewer.frame = 1
    (part,) = parts_of([viewer])
    assert part.traits["arrays"]["volume"]["shape"] == list(SHAPE)
    assert part.arrays["volume"] == beat(image)[1].astype(np.int16).tobytes()
    assert part.arrays["labels of one"] == bytes(truth.size)
    assert part.arrays["labels of all"] == truth.tobytes()
    assert np.frombuffer(part.arrays["areas"], np.int32).reshape(4, -1)[:, 1:].sum() == 0
    assert part.data["dice"]["all"][2][1] == 0  # nothing is there at this moment, and the map for all says otherwise


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"volume": ()}, "the frames of a cine must be Volumes, or one array"),
        ({"labels": {"a": np.zeros((2, *SHAPE), int)}}, "one for all frames, or one for each of the scan's 3; got 2"),
        ({"codes": np.zeros((2, 4, 2, 2), int)}, "codes of a cine must be"),
    ],
)
def test_a_wrong_cine_is_refused(front_end, as_a_user, image, change, rule):
    with pytest.raises(ValueError, match=rule):
        SliceViewer(**({"volume": beat(image)} | change))
