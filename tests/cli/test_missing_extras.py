"""Where an extra is not installed, one line says which, and what installs it."""

import folders
import nbformat
import numpy as np
import pytest
from commands import command, refused
from runs import write_run

GONE = """
import sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name == {!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Gone())
"""


@pytest.fixture
def folder(tmp_path):
    """A notebook, a sweep of it, a DICOM series and a finished run."""
    cell = nbformat.v4.new_code_cell("count: int = 3  # how many", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "work.ipynb")
    (tmp_path / "try.yaml").write_text("{notebook: work.ipynb, grid: {count: [1, 2]}}")
    folders.write_dicom(tmp_path / "chest", [np.zeros((8, 8, 3), np.int64)], np.diag([-1, -1, 8, 1]))
    write_run(tmp_path / "run", "unet")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "run" / "work.ipynb")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (["run", "work.ipynb"], "yaml", "jobs"),
        (["run", "work.ipynb"], "papermill", "jobs"),
        (["sweep", "try.yaml"], "distributed", "jobs"),
        (["report", "run"], "nbconvert", "jobs"),
        (["seeds", "run"], "pandas", "jobs"),
        (["app", "work.ipynb"], "voila", "lab"),
        (["predict", "MODEL", "chest", "-o", "out"], "pydicom", "dicom"),
        (["export", "MODEL", "model.onnx"], "onnxscript", "export"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_the_command_says_which_and_leaves_nothing(words, module, extra, folder, run_folder):
    before = sorted(folder.rglob("*"))
    words = [run_folder if word == "MODEL" else word for word in words]
    result = command(*words, before=GONE.format(module), cwd=folder)
    refused(result, rf"^l2gnet: error: [^\n]*; pip install 'l2gnet\[{extra}\]'\.?$")
    assert sorted(folder.rglob("*")) == before


def test_a_notebook_says_so_too():
    result = command("--help", before=GONE.format("anywidget") + "from l2gnet.widgets import SliceViewer")
    last = result.stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: anywidget is needed, and not installed; pip install 'l2gnet[lab]'"
