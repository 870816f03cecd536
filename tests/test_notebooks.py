"""Rules that keep the saved notebooks honest; nbval runs them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from l2gnet.errors import ConfigError
from l2gnet.jobs.notebook_rules import CHECK, broken_rules, mark
from l2gnet.jobs.parameters import read_parameters

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def dishonesty(path: Path) -> list[str]:
    """All that is wrong with a saved notebook of this project."""
    cells = nbformat.read(path, as_version=4).cells
    wrong = broken_rules(path)
    if not cells[0].source.startswith("# ") or "What you will learn" not in cells[0].source:
        wrong.append("does not open with what you will learn")
    if "What to try" not in cells[-1].source:
        wrong.append("does not end with what to try")
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_saved_notebooks_are_honest(path):
    assert dishonesty(path) == []


def test_running_notebooks_anew_marks_what_is_not_compared():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    whole = nbformat.writes(notebook)
    for cell in notebook.cells:
        if "parameters" not in cell.metadata.get("tags", []):
            cell.metadata.pop("tags", None)
    mark(notebook.cells)
    assert nbformat.writes(notebook) == whole


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_parameters_are_the_first_code_cell(path):
    first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert first.metadata.tags == ["parameters"]
    assert read_parameters(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "parameter", "value"),
    [("02", "volumes", 0), ("02", "code", 9999), ("03", "volume", 99), ("03", "slice_index", 99)],
)
def test_a_parameter_out_of_range_is_named(start, parameter, value):
    path = next(path for path in NOTEBOOKS if path.name.startswith(start))
    parameters, *more = (c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    variables = {}
    exec(f"{parameters}\n{parameter} = {value}", variables)
    with pytest.raises(ConfigError, match=f"^{parameter} must be .*, got {value}$"):
        exec("\n".join(more[:2]), variables)


def cheat(change, folder):
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    change(notebook, code)
    (folder / "cheat.ipynb").write_text(nbformat.writes(notebook))
    return "\n".join(broken_rules(folder / "cheat.ipynb"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda n, code: code[-1].update(source="1"), "no check cell"),
        (lambda n, code: code[-1].update(outputs=[]), "a check cell that was never run: code cell 8"),
        (lambda n, code: code[-1].update(source=f"{CHECK}\n1"), "a check cell that asserts nothing: code cell 8"),
        (
            lambda n, code: [code[n].metadata.update(tags=[]) for n in (1, 3)],
            "a check cell that is not compared, or another that is: code cell 2, 4",
        ),
        (
            lambda n, code: code[-1].metadata.update(tags=["nbval-ignore-output"]),
            "a check cell that is not compared, or another that is: code cell 8",
        ),
        (lambda n, code: code[0].update(execution_count=9), "not run from top to bottom"),
        (
            lambda n, code: code[-1].outputs.extend([nbformat.v4.new_output("stream", name="stderr")] * 2),
            "a warning in its output: code cell 8",
        ),
        (lambda n, code: n.metadata.update(widgets={}), "saved widget state"),
        (lambda n, code: n.cells.extend(nbformat.v4.new_markdown_cell() for _ in range(30)), "more than 30 cells"),
        (lambda n, code: code[0].update(source="x" * 300_000), "more than 300 kB"),
        (lambda n, code: code[0].update(source="'/home/me/data'"), "a home path"),
        (lambda n, code: code[0].update(source="def f():\n" + "    1\n" * 9), "f belongs in a library"),
        (lambda n, code: code[0].update(source="x = 2 * 3"), "must be `name: type = literal"),
        (lambda n, code: n.cells.insert(0, nbformat.v4.new_code_cell()), "parameters in another cell than the first"),
    ],
)
def test_each_rule_is_enforced(change, complaint, tmp_path):
    assert complaint in cheat(change, tmp_path)


def test_what_is_no_notebook_and_what_is_no_python_end_no_test_run(tmp_path):
    (tmp_path / "list.ipynb").write_text("[]")
    assert broken_rules(tmp_path / "list.ipynb") == ["no notebook of format 4"]
    cheat(lambda n, code: code[-1].update(source="files = !ls"), tmp_path)


@pytest.mark.slow
def test_others_can_turn_the_rules_on(tmp_path):
    shutil.copy(NOTEBOOKS[0], tmp_path / "good.ipynb")
    (tmp_path / "bad.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook()))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    on = subprocess.run([*command, "--notebook-rules"], capture_output=True, text=True, cwd=tmp_path)
    assert "no check cell" in on.stdout
    assert re.search("^FAILED .*: bad.ipynb: no check cell", on.stdout, re.MULTILINE)  # in the summary
    assert "1 failed, 1 passed" in on.stdout
    off = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "no tests ran" in off.stdout


def test_who_does_not_ask_for_the_rules_does_not_wait_for_them():
    told = "import sys, pytest, l2gnet.jobs.notebook_rules; print({'torch', 'numpy', 'nbformat'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", told], text=True) == "set()\n"
