"""The pages of `l2gnet app` in a real browser: a scan in, an answer in words, and its labels to take away."""

import re
import subprocess
import sys
import zipfile

import nibabel as nib
import numpy as np
import pytest
from folders import write_dicom

from l2gnet.data.made import heart_beat
from l2gnet.prediction.segmenter import Segmenter


@pytest.fixture(scope="module")
def address():
    command = [sys.executable, "-m", "l2gnet", "app", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield re.search(r"http\S+", server.stdout.readline())[0]
        finally:
            server.terminate()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(120_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(error.stack))
    page.goto(address)
    yield page
    page.close()
    assert errors == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_example_is_answered_in_words(page, theme):
    from lab import SCREENSHOTS

    page.emulate_media(color_scheme=theme)
    page.screenshot(path=SCREENSHOTS / f"app-index-{theme}.png")
    page.get_by_text("Segment a scan").click()
    page.get_by_role("button", name="heart 1").click()
    function = Segmenter("phantom-heart").predict(heart_beat(2027), "scan").function
    page.get_by_text("left ventricle: ejection fraction").wait_for()
    page.get_by_text(f"{function.left.ejection_fraction:.0f} %", exact=True).first.wait_for()
    picture = page.locator(".l2g-desk-frame canvas")
    page.get_by_label("slice", exact=True).press("Home")
    page.get_by_text("axial · 1 of 10").wait_for()
    page.get_by_label("moment of the beat").press("ArrowRight")
    page.get_by_text("2 of 2", exact=True).wait_for()
    picture.press("ArrowUp")
    page.get_by_text("axial · 2 of 10").wait_for()
    page.screenshot(path=SCREENSHOTS / f"app-desk-{theme}.png")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    picture.drag_to(picture, source_position={"x": 100, "y": 100}, target_position={"x": 180, "y": 60})
    page.wait_for_function("document.querySelector('.l2g-desk select').value === 'by hand'")
    page.get_by_label("contrast").select_option("body")  # again
    page.wait_for_function("document.querySelector('.l2g-desk select').value === 'body'")


@pytest.mark.slow
def test_a_file_is_segmented_and_its_labels_are_taken_away(page, tmp_path):
    first, _ = heart_beat(2028)
    scan = tmp_path / "patient.nii.gz"
    nib.Nifti1Image(first.array.T.astype(np.int16), first.affine[:, [2, 1, 0, 3]]).to_filename(scan)
    page.get_by_text("Segment a scan").click()
    page.get_by_label("scan file").set_input_files(tmp_path / "patient.nii.gz")
    page.locator(".l2g-desk-line", has_text="myocardium").wait_for()  # of one moment it tells volumes
    assert page.locator(".l2g-desk-name").text_content().endswith(": patient.nii.gz")
    with page.expect_download() as download:
        page.get_by_text("Download labels and report").click()
    with zipfile.ZipFile(download.value.path()) as files:
        files.extractall(tmp_path)
    labels = np.asarray(nib.load(tmp_path / "scan_labels.nii.gz").dataobj)
    wanted = Segmenter("phantom-heart").predict([first], "scan").labels[0].array
    np.testing.assert_array_equal(labels.T, wanted)


@pytest.mark.slow
def test_what_is_no_scan_is_refused_in_words(page, tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"a picture")
    page.get_by_text("Segment a scan").click()
    page.get_by_role("button", name="heart 3").click()
    page.locator(".l2g-desk-name", has_text="heart 3").wait_for()
    page.get_by_text("left ventricle: ejection fraction").wait_for()
    page.get_by_label("scan file").set_input_files(tmp_path / "holiday.png")
    page.get_by_text("a scan that is dropped must be NIfTI").wait_for()
    page.get_by_text("what is shown is still heart 3").wait_for()
    page.get_by_role("button", name="heart 2").click()
    page.locator(".l2g-desk-name", has_text="heart 2").wait_for()
    assert page.get_by_role("alert").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_folder_of_dicom_files_is_segmented(page, tmp_path, theme):
    from lab import SCREENSHOTS

    page.emulate_media(color_scheme=theme)
    frames = heart_beat(2028)
    phases = [frame.array.T.astype(np.int16) for frame in frames]
    (tmp_path / "patient/series").mkdir(parents=True)
    write_dicom(tmp_path / "patient/series", phases, frames[0].affine[:, [2, 1, 0, 3]])
    (tmp_path / "patient/notes.txt").write_text("passed over")
    page.get_by_text("Segment a scan").click()
    page.set_viewport_size({"width": 1024, "height": 768} if theme == "dark" else {"width": 1440, "height": 900})
    page.screenshot(path=SCREENSHOTS / f"app-drop-{theme}.png")
    page.get_by_label("scan folder").set_input_files(tmp_path / "patient")
    page.get_by_text("left ventricle: ejection fraction").wait_for()
    wanted = Segmenter("phantom-heart").predict(frames, "scan").function
    page.get_by_text(f"{wanted.left.ejection_fraction:.0f} %", exact=True).first.wait_for()
    page.screenshot(path=SCREENSHOTS / f"app-dicom-{theme}.png")
    (tmp_path / "patient/series/IM0003").unlink()  # a slice is missing now
    page.get_by_label("scan folder").set_input_files(tmp_path / "patient")
    page.get_by_role("alert").get_by_text("copy the missing files, and each file once.").wait_for()
