import folders
import highdicom
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from test_dicom import heart, one_input, placed, shuffled

from l2gnet.colours import COLOURS
from l2gnet.data.formats.dicom import find_series, is_dicom
from l2gnet.data.formats.dicom_seg import write_segs
from l2gnet.data.regions import Regions
from l2gnet.data.volume import write_labels
from l2gnet.errors import VolumeError

CLASSES = ("background", "right ventricle", "lesion", "left ventricle")


def labels_of(scan):
    """Labels 1 and 3 in two corners that no symmetry of the volume exchanges; 2 is nowhere."""
    array = np.zeros(scan.shape, np.uint8)
    array[0, :6, :9] = 1
    array[2:4, 10:13, 20:24] = 3
    return scan.like(array)


def voxels_in_the_world(seg):
    """All labelled voxels of a DICOM SEG in RAS, by hand from what each of its frames says of itself."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    across, down = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found = {}
    for mask, about in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(about.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(mask)
        lps = corner + np.outer(columns * column_mm, across) + np.outer(rows * row_mm, down)
        label = about.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found.setdefault(label, []).append(lps * (-1, -1, 1))
    return {label: np.concatenate(parts) for label, parts in found.items()}


def in_order(points):
    return points[np.lexsort(points.round(2).T)]


def test_a_seg_lies_in_the_world_where_the_nifti_labels_lie(tmp_path):
    folders.write_dicom(tmp_path / "cine", [heart(), heart("ES")], placed(), order=shuffled(10))
    scan = one_input(tmp_path / "cine")
    frames = [labels_of(frame) for frame in scan.read()]
    write_labels(tmp_path / "labels.nii.gz", frames[1])
    paths = [tmp_path / "first.dcm", tmp_path / "labels.dcm"]
    write_segs(scan.series, paths, frames, CLASSES, model="l2gnet")
    seg, nifti = dcmread(tmp_path / "labels.dcm"), nib.load(tmp_path / "labels.nii.gz")
    voxels = voxels_in_the_world(seg)
    assert voxels.keys() == {1, 3}
    for label, points in voxels.items():
        expected = nib.affines.apply_affine(nifti.affine, np.argwhere(np.asarray(nifti.dataobj) == label))
        np.testing.assert_allclose(in_order(points), in_order(expected), atol=2e-3)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == list(CLASSES[1:])
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Right ventricle"
    assert seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Anatomical Structure"
    images = [image.header for image in scan.series.stacks()[1].images]
    assert (seg.PatientID, seg.StudyInstanceUID) == ("4711", images[0].StudyInstanceUID)
    sources = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert sources == {image.SOPInstanceUID for image in images}


def test_our_own_seg_is_no_scan(tmp_path):
    folders.write_dicom(tmp_path / "series", [heart()], placed())
    scan = one_input(tmp_path / "series")
    path = tmp_path / "series" / "labels.dcm"
    write_segs(scan.series, [path], [labels_of(scan.read()[0])], CLASSES, model="l2gnet")
    assert is_dicom(path)
    assert len(find_series(sorted(path.parent.iterdir()))[0].files) == 5


@pytest.mark.parametrize("make", [folders.enhanced, folders.legacy_converted])
def test_a_seg_of_an_enhanced_file_refers_to_the_frames_of_its_phase(tmp_path, make):
    phases, order = [heart(), heart("ES")], shuffled(10)
    folders.write_dicom(tmp_path / "classic", phases, placed(), order=order)
    folders.save_dicom(tmp_path / "scan.dcm", make(phases, placed(), order=order))
    source = dcmread(tmp_path / "scan.dcm")
    classic, scan = one_input(tmp_path / "classic"), one_input(tmp_path / "scan.dcm")
    paths = [tmp_path / "first.dcm", tmp_path / "second.dcm"]
    write_segs(scan.series, paths, [labels_of(frame) for frame in scan.read()], CLASSES, model="l2gnet")
    segs = list(map(dcmread, paths))
    write_segs(classic.series, paths, [labels_of(frame) for frame in classic.read()], CLASSES, model="l2gnet")
    seen = set()
    for seg, of_classic, stack in zip(segs, map(dcmread, paths), scan.series.stacks(), strict=True):
        voxels, expected = voxels_in_the_world(seg), voxels_in_the_world(of_classic)
        assert voxels.keys() == expected.keys() == {1, 3}
        for label, points in voxels.items():
            np.testing.assert_allclose(in_order(points), in_order(expected[label]), atol=1e-6)
        (reference,) = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert (seg.PatientID, seg.StudyInstanceUID) == ("4711", source.StudyInstanceUID)
        of_phase = {image.header.InstanceNumber for image in stack.images}
        for frame in seg.PerFrameFunctionalGroupsSequence:
            (item,) = frame.DerivationImageSequence[0].SourceImageSequence
            assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
            assert item.ReferencedFrameNumber in of_phase
            of_source = source.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
            place = of_source.PlanePositionSequence[0].ImagePositionPatient
            assert frame.PlanePositionSequence[0].ImagePositionPatient == place
            seen.add(item.ReferencedFrameNumber)
    assert len(seen) == 6  # three slices with labels in two phases


def test_a_series_with_noise_in_its_headers_gets_a_seg(tmp_path):
    draw = np.random.default_rng(0)
    for k, image in enumerate(folders.dicom_slices([heart()], placed(), order=shuffled(5))):
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            values = np.array(image[name].value, float)
            setattr(image, name, [f"{value:.9f}"[:16] for value in values + draw.uniform(-1e-3, 1e-3, len(values))])
        folders.save_dicom(tmp_path / "series" / str(k), image)
    scan = one_input(tmp_path / "series")
    (frame,) = scan.read()
    write_segs(scan.series, [tmp_path / "out.dcm"], [labels_of(frame)], CLASSES, model="l2gnet")
    voxels = voxels_in_the_world(dcmread(tmp_path / "out.dcm"))
    for label in (1, 3):
        expected = nib.affines.apply_affine(frame.affine, np.argwhere(labels_of(frame).array == label))
        np.testing.assert_allclose(in_order(voxels[label]), in_order(expected), atol=0.1)


def test_a_scan_that_does_not_say_of_whom_it_is_gets_no_seg(tmp_path):
    image = folders.enhanced([heart()], placed())
    del image.PatientID
    folders.save_dicom(tmp_path / "scan.dcm", image)
    scan = one_input(tmp_path / "scan.dcm")
    with pytest.raises(VolumeError, match=r"scan\.dcm: .* 'PatientID'"):
        write_segs(scan.series, [tmp_path / "out.dcm"], [labels_of(scan.read()[0])], CLASSES, model="l2gnet")


@pytest.mark.parametrize("make", ["classic", "enhanced"])
def test_a_series_without_name_and_dates_gets_a_seg(tmp_path, make):
    gone = ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber")
    images = folders.dicom_slices([heart()], placed()) if make == "classic" else [folders.enhanced([heart()], placed())]
    for number, image in enumerate(images):
        for name in (*gone, "ReferringPhysicianName"):
            delattr(image, name)
        folders.save_dicom(tmp_path / "scan" / f"{number}.dcm", image)
    scan = one_input(tmp_path / "scan")
    write_segs(scan.series, [tmp_path / "out.dcm"], [labels_of(scan.read()[0])], CLASSES, model="l2gnet")
    seg = dcmread(tmp_path / "out.dcm")
    assert seg.PatientID == "4711"
    assert [str(seg[name].value or "") for name in gone] == [""] * len(gone)


def test_what_no_seg_may_say_of_a_patient_is_left_out(tmp_path):
    wrong = {"PatientSex": "male", "PatientBirthDate": "2001-02-03", "StudyTime": "noon"}
    with pytest.warns(UserWarning, match="Invalid value"):  # of pydicom
        folders.write_dicom(tmp_path / "scan", [heart()], placed(), **wrong)
    scan = one_input(tmp_path / "scan")
    write_segs(scan.series, [tmp_path / "out.dcm"], [labels_of(scan.read()[0])], CLASSES, model="l2gnet")
    seg = dcmread(tmp_path / "out.dcm")
    assert (seg.PatientID, seg.StudyDate) == ("4711", "20260101")
    assert [str(seg[name].value or "") for name in wrong] == [""] * len(wrong)


def test_a_series_without_a_frame_of_reference_gets_no_seg(tmp_path):
    folders.write_dicom(tmp_path / "scan", [heart()], placed(), FrameOfReferenceUID=None)
    scan = one_input(tmp_path / "scan")
    with pytest.raises(VolumeError, match=r"scan: a series must say its FrameOfReferenceUID to get a DICOM SEG; found"):
        write_segs(scan.series, [tmp_path / "out.dcm"], [labels_of(scan.read()[0])], CLASSES, model="l2gnet")


def test_a_viewer_is_told_what_to_call_a_structure_how_to_draw_it_and_how_to_know_it_again(tmp_path):
    folders.write_dicom(tmp_path / "cine", [heart(), heart("ES")], placed(), order=shuffled(10))
    scan = one_input(tmp_path / "cine")
    paths, frames = [tmp_path / "first.dcm", tmp_path / "second.dcm"], [labels_of(frame) for frame in scan.read()]
    write_segs(scan.series, paths, frames, CLASSES, model="l2gnet")
    first, second = map(highdicom.seg.segread, paths)
    assert first.SeriesDescription == "Segmentation by l2gnet, for research only"
    for number, name in enumerate(CLASSES[1:], start=1):
        seen, later = first.get_segment_description(number), second.get_segment_description(number)
        assert seen.tracking_id == f"{name}, series 1"
        assert seen.tracking_uid == later.tracking_uid  # one heart, at two moments
        wanted = tuple(int(COLOURS[number - 1][i : i + 2], 16) for i in (1, 3, 5))
        colour = highdicom.color.CIELabColor.from_dicom_value(seen.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(colour.to_rgb(), wanted, atol=1)
    assert len({first.get_segment_description(number).tracking_uid for number in (1, 2, 3)}) == 3
    folders.write_dicom(tmp_path / "other", [heart()], placed(), SeriesInstanceUID=generate_uid())
    other = one_input(tmp_path / "other")
    write_segs(other.series, [tmp_path / "other.dcm"], [frames[0]], CLASSES, model="l2gnet")
    others = highdicom.seg.segread(tmp_path / "other.dcm").get_segment_description(1)
    assert others.tracking_uid != first.get_segment_description(1).tracking_uid


def test_all_planes_of_all_structures_are_there_on_request(tmp_path):
    folders.write_dicom(tmp_path / "series", [heart()], placed())
    scan = one_input(tmp_path / "series")
    labels = labels_of(scan.read()[0])
    for all_planes, frames in ((False, 3), (True, 15)):
        write_segs(scan.series, [tmp_path / "out.dcm"], [labels], CLASSES, model="l2gnet", all_planes=all_planes)
        seg = highdicom.seg.segread(tmp_path / "out.dcm")
        assert seg.NumberOfFrames == frames
    wanted = [dcmread(file).SOPInstanceUID for file in sorted((tmp_path / "series").iterdir())]
    stack = seg.get_pixels_by_source_instance(wanted, combine_segments=True)
    assert np.unique(stack).tolist() == [0, 1, 3]
    assert (np.count_nonzero(stack == 1), np.count_nonzero(stack == 3)) == (54, 24)


CHARACTER_SETS = {  # what the header says, and a name as it stands in bytes under it
    "empty": ("", b"M\xfcller^J\xf6rg", "Müller^Jörg"),
    "empty list": ([], b"Doe^Jane", "Doe^Jane"),
    "Latin-1": ("ISO_IR 100", b"M\xfcller^J\xf6rg", "Müller^Jörg"),
    "UTF-8": ("ISO_IR 192", "Łucja^Ćwik".encode(), "Łucja^Ćwik"),
    "extended": (
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        "Yamada^Tarou=山田^太郎",
    ),
}


@pytest.mark.parametrize("kind", CHARACTER_SETS)
def test_a_name_in_any_character_set_is_the_same_name_in_the_seg(tmp_path, kind):
    said, stored, name = CHARACTER_SETS[kind]
    folders.write_dicom(tmp_path / "series", [heart()], placed(), SpecificCharacterSet=said, PatientName=stored)
    assert stored in (tmp_path / "series" / "IM0001").read_bytes()
    scan = one_input(tmp_path / "series")
    write_segs(scan.series, [tmp_path / "out.dcm"], [labels_of(scan.read()[0])], CLASSES, model="l2gnet")
    assert str(dcmread(tmp_path / "out.dcm").PatientName) == name


def test_segments_that_are_regions_overlap(tmp_path):
    folders.write_dicom(tmp_path / "series", [heart()], placed())
    scan = one_input(tmp_path / "series")
    labels = labels_of(scan.read()[0])
    names, regions = ("background", "whole", "core"), Regions(((1, 3), (3,)), (1, 3))
    write_segs(scan.series, [tmp_path / "labels.dcm"], [labels], names, model="l2gnet", regions=regions)
    write_labels(tmp_path / "labels.nii.gz", labels)
    nifti = nib.load(tmp_path / "labels.nii.gz")
    voxels = voxels_in_the_world(dcmread(tmp_path / "labels.dcm"))
    assert voxels.keys() == {1, 2}
    for segment, points in voxels.items():
        inside = np.isin(np.asarray(nifti.dataobj), regions.labels[segment - 1])
        expected = nib.affines.apply_affine(nifti.affine, np.argwhere(inside))
        np.testing.assert_allclose(in_order(points), in_order(expected), atol=2e-3)
