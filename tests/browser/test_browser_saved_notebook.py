"""A notebook that was saved shows its viewers as they were, where no kernel knows them."""

import base64
import io
import shutil

import nbformat
import numpy as np
import pytest
from nbformat.sign import NotebookNotary
from PIL import Image

HEART = """
import numpy as np
from l2gnet.data.phantoms import HEART_CLASSES, make_heart
from l2gnet.widgets.slice_viewer import SliceViewer

heart = make_heart(3)
viewer = SliceViewer(heart.image, {"truth": heart.label}, spacing_mm=heart.spacing_mm, classes=HEART_CLASSES)
viewer
"""
BAR = """
from tqdm.auto import tqdm

for _ in tqdm(range(3), desc="waiting"):
    pass
"""


def same(one, two):
    """Whether two pictures (H, W, 3) show the same, but for a pixel's shift and the losses of a JPEG."""
    height, width = (min(sizes) // 8 for sizes in zip(one.shape[:2], two.shape[:2], strict=True))
    small = [
        picture[: 8 * height, : 8 * width].reshape(height, 8, width, 8, 3).mean(axis=(1, 3)) for picture in (one, two)
    ]
    return np.abs(small[0] - small[1]).mean() < 2


@pytest.fixture(scope="module")
def saved(browser, tmp_path_factory):
    """A notebook that was run, clicked and saved in a JupyterLab that is gone, and what its viewer showed last."""
    import lab

    home = tmp_path_factory.mktemp("saved")
    with lab.start_lab(home) as running:
        notebook = lab.open_notebook(running, browser, [HEART, BAR], width=1440, height=900)
        notebook.run_all()
        viewer = notebook.page.locator(".l2g-viewer")
        viewer.get_by_text("100%").or_(viewer.get_by_text("intensity")).first.wait_for()
        first = notebook.screenshot("saved-notebook-first", viewer)
        viewer.get_by_role("button", name="fill").click()
        viewer.locator("canvas").first.press("PageUp")
        viewer.locator("canvas").first.press("ArrowDown")
        notebook.page.mouse.move(0, 0)
        notebook.page.locator(".jp-Notebook-footer").focus()  # a focus is drawn, too
        last = notebook.screenshot("saved-notebook-last", viewer)
        assert not same(first, last)
        notebook.command("docmanager:save")
        assert viewer.is_visible()  # it goes on living
        assert notebook.errors == []
        path = home / "saved.ipynb"
        shutil.copy(next(running.folder.glob("*.ipynb")), path)
        notebook.close()
    return path, last


def test_the_file_holds_the_picture_of_the_state_at_saving_time(saved):
    path, last = saved
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    output = notebook.cells[0].outputs[0]
    assert "text/html" not in output.data  # the picture that Python drew before
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(output.data["image/jpeg"]))).convert("RGB"))
    assert picture.shape[:2] == (output.metadata["image/jpeg"]["height"], output.metadata["image/jpeg"]["width"])
    assert same(picture, last)
    assert path.stat().st_size < 300_000


def without_a_kernel(jupyter, browser, path):
    """A notebook's page; it names no kernel, and none is chosen."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.clear()
    nbformat.write(notebook, jupyter.folder / "gone.ipynb")
    NotebookNotary().sign(notebook)  # only of a trusted notebook JupyterLab prefers the widget to its picture
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(f"{jupyter.url}doc/tree/gone.ipynb?token={jupyter.token}&reset")
    no = page.locator(".jp-Dialog").get_by_role("button", name="No Kernel")
    no.click()
    page.wait_for_timeout(3000)
    if no.is_visible():  # JupyterLab asks twice
        no.click()
    return page


def shows_the_picture_and_no_error(page, last, name):
    import lab

    page.locator(".l2g-kept").first.wait_for()
    page.wait_for_timeout(2000)
    lab.SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=lab.SCREENSHOTS / f"saved-notebook-{name}.png")
    picture = page.locator(".jp-OutputArea img:visible")
    assert picture.count() == 1
    assert same(np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB")), last)
    text = page.locator(".jp-Notebook").inner_text()
    assert "Error" not in text
    assert "Loading widget" not in text
    assert "0/3" not in text  # of the progress bar


def test_reopened_with_another_kernel_it_shows_the_picture_and_no_error(saved, jupyter, browser):
    import lab

    path, last = saved
    notebook = lab.open_notebook(jupyter, browser, path, width=1440, height=900)
    shows_the_picture_and_no_error(notebook.page, last, "another-kernel")
    notebook.close()


def test_reopened_without_a_kernel_it_shows_the_picture_and_no_error(saved, jupyter, browser):
    path, last = saved
    page = without_a_kernel(jupyter, browser, path)
    page.locator(".jp-KernelName").get_by_text("No Kernel").wait_for()
    shows_the_picture_and_no_error(page, last, "no-kernel")
    page.close()


def test_what_python_drew_is_shown_without_a_kernel_and_without_a_ground(jupyter, browser, tmp_path):
    from l2gnet.widgets.slice_viewer import SliceViewer

    from l2gnet.data.phantoms import HEART_CLASSES, make_heart

    heart = make_heart(3)
    viewer = SliceViewer(heart.image, {"truth": heart.label}, spacing_mm=heart.spacing_mm, classes=HEART_CLASSES)
    data, _ = viewer._repr_mimebundle_()
    viewer.close()
    cell = nbformat.v4.new_code_cell(HEART, outputs=[nbformat.v4.new_output("display_data", data)])
    path = tmp_path / "drawn.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    page = without_a_kernel(jupyter, browser, path)
    page.locator(".l2g-kept").wait_for()
    page.wait_for_timeout(2000)
    picture = page.locator(".jp-OutputArea img:visible")
    assert picture.count() == 1
    assert picture.get_attribute("src").startswith("data:image/svg+xml,")
    assert picture.evaluate("image => image.naturalWidth") > 300
    page.add_style_tag(content=".l2g-kept { background: rgb(1, 2, 3) !important; }")
    shown = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB"))
    assert shown[2, 2].tolist() == [1, 2, 3]
    page.close()
