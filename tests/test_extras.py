import ast
import sys
from pathlib import Path

import pytest

from l2gnet.extras import explained

ROOT = Path(__file__).parents[1]


def imported() -> set[str]:
    """The packages of others that the library imports somewhere."""
    names = set()
    for file in (*(ROOT / "l2gnet").rglob("*.py"), *(ROOT / "widgets").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"l2gnet"}


@pytest.mark.parametrize("module", sorted(imported()))
def test_every_package_that_is_imported_has_a_command_that_installs_it(module):
    assert "is needed, and not installed; pip install 'l2gnet" in str(explained(ModuleNotFoundError(name=module)))


def test_the_site_can_import_all_that_it_documents():
    remedies = {module: str(explained(ModuleNotFoundError(name=module))) for module in imported()}
    assert [module for module, remedy in remedies.items() if "l2gnet[test]" in remedy] == []


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("torch", "torch", ""),
        ("papermill", "papermill", "[jobs]"),
        ("yaml", "pyyaml", "[jobs]"),
        ("dask_jobqueue", "dask-jobqueue", "[jobs]"),
        ("pydicom", "highdicom", "[dicom]"),
        ("onnxscript", "onnxscript", "[export]"),
        ("anywidget", "anywidget", "[lab]"),
        ("jupyterlab", "jupyterlab", "[lab]"),
    ],
)
def test_the_smallest_extra_is_named(module, package, extra):
    error = explained(ModuleNotFoundError(name=module))
    assert str(error) == f"{package} is needed, and not installed; pip install 'l2gnet{extra}'"
    assert error.name == module


@pytest.mark.parametrize("name", ["l2gnet.no_such_file", "l2gnet", "torch.no_such_file", "who_knows", None])
def test_a_mistake_of_ours_is_left_alone(name):
    error = ModuleNotFoundError("as it was", name=name)
    assert explained(error) is error
