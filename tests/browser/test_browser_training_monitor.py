"""A run is watched in the browser while the same kernel trains."""

import re

import numpy as np

MONITOR = """
from l2gnet.widgets import TrainingMonitor

monitor = TrainingMonitor("run")
monitor
"""
TRAIN = """
from l2gnet.training.settings import TrainSettings
from l2gnet.training.run import train

settings = TrainSettings(patients=12, validation_patients=2, epochs=8, size_px=96, spacing_mm=2.0, codes=32)
train(settings, "run")
print("trained")
"""


def test_curves_and_samples_appear_while_it_trains(open_notebook):
    notebook = open_notebook([MONITOR, TRAIN])
    notebook.page.set_default_timeout(240_000)
    notebook.run_cell(0)
    viewer = notebook.page.locator(".l2g-viewer")
    assert viewer.get_by_text("waiting for the first epoch").is_visible()
    notebook.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1")
    notebook.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")  # it is not waited for
    viewer.get_by_text(re.compile(r"epoch \d+ of 8")).wait_for()
    assert not notebook.page.get_by_text("trained", exact=True).is_visible()
    viewer.get_by_text("finished after epoch 8").wait_for()
    viewer.get_by_label("validation slice 2").wait_for()
    # The codebook that forms, epoch by epoch.
    viewer.get_by_text(re.compile(r"the codes at epoch 8: \d+ of 32 in use")).wait_for()
    codes, epoch = viewer.get_by_label("the codes at an epoch"), viewer.get_by_label("epoch", exact=True)
    newest = codes.screenshot()
    epoch.press("Home")
    viewer.get_by_text("the codes at epoch 1: ").wait_for()
    assert codes.screenshot() != newest
    viewer.get_by_role("button", name="play the epochs").click()
    viewer.get_by_text("the codes at epoch 3: ").wait_for()
    viewer.get_by_role("button", name="stop the epochs").click()
    epoch.press("End")
    viewer.get_by_text("the codes at epoch 8: ").wait_for()
    chart = viewer.locator(".l2g-chart canvas").nth(1)
    picture = notebook.screenshot("monitor-dice", chart).astype(int)
    assert all((np.abs(picture - colour).max(2) < 12).sum() > 20 for colour in ((230, 159, 0), (86, 180, 233)))
    notebook.page.set_viewport_size({"width": 1440, "height": 900})
    notebook.screenshot("monitor-light", viewer)
    notebook.theme("dark")
    notebook.page.wait_for_timeout(300)
    notebook.screenshot("monitor-dark", viewer)
    notebook.page.set_viewport_size({"width": 1024, "height": 768})
    notebook.page.wait_for_timeout(500)
    notebook.screenshot("monitor-1024", viewer)
