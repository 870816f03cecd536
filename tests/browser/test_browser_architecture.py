"""The diagram of the architecture opens on click where nothing runs: in a saved notebook that is not trusted."""

import nbformat
import numpy as np
import torch

from l2gnet import build_model


def test_a_box_opens_in_a_notebook_that_is_not_trusted(jupyter, browser):
    from l2gnet.widgets.architecture import Architecture

    torch.manual_seed(0)
    model = build_model("l2gnet", classes=4, width=4, depth=2, codes=16, references=4).eval()
    diagram = Architecture(model, torch.rand(1, 1, 32, 32), np.zeros((32, 32), np.uint8))
    output = nbformat.v4.new_output("display_data", {"text/html": diagram._repr_html_()})
    cell = nbformat.v4.new_code_cell("diagram", outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), jupyter.folder / "diagram.ipynb")
    page = browser.new_page(viewport={"width": 900, "height": 900})  # narrower than the diagram
    page.set_default_timeout(60_000)
    page.goto(f"{jupyter.url}doc/tree/diagram.ipynb?token={jupyter.token}&reset")
    diagram = page.locator(".jp-OutputArea img").first
    diagram.wait_for()
    page.wait_for_timeout(3000)
    no = page.locator(".jp-Dialog").get_by_role("button", name="No Kernel")
    while no.is_visible():  # JupyterLab asks twice
        no.click()
        page.wait_for_timeout(2000)
    assert page.evaluate("window.jupyterapp.shell.currentWidget.model.cells.get(0).trusted") is False
    large = page.locator("details img")

    def shown():
        return [number for number, picture in enumerate(large.all()) if picture.is_visible()]

    assert shown() == []
    box = diagram.bounding_box()
    share = box["width"] / 1000
    page.mouse.click(box["x"] + 400 * share, box["y"] + 120 * share)  # on the third of six boxes above
    assert shown() == [2]
    page.mouse.click(box["x"] + 400 * share, box["y"] + 120 * share)  # it stays where it was
    assert shown() == []
    page.get_by_text("slots", exact=True).first.press("Enter")
    assert page.get_by_text("heads × R × d/heads").is_visible()
    page.close()
