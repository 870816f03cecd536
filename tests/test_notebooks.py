"""Rules that keep the saved notebooks honest; nbval runs them."""

import ast
from pathlib import Path

import nbformat
import pytest
from refresh_notebooks import CHECK, UNCOMPARED, mark

from l2gnet.jobs.parameters import read_parameters

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def dishonesty(notebook: nbformat.NotebookNode, text: str) -> list[str]:
    """All that is wrong with a saved notebook."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    checks = [cell for cell in code if cell.source.startswith(CHECK)]
    wrong = []
    if not checks:
        wrong.append("no check cell")
    if any(cell.execution_count is None or not cell.outputs for cell in checks):
        wrong.append("a check cell that was never run")
    if any("assert " not in cell.source for cell in checks):
        wrong.append("a check cell that asserts nothing")
    if any(
        (UNCOMPARED in cell.metadata.get("tags", [])) == (cell in checks)
        for cell in code
        if "parameters" not in cell.metadata.get("tags", [])
    ):
        wrong.append("a check cell that is not compared, or another that is")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        wrong.append("not run from top to bottom")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        wrong.append("an error in its output")
    if any(output.get("name") == "stderr" for cell in code for output in cell.outputs):
        wrong.append("a warning in its output")
    if "widgets" in notebook.metadata or "vnd.jupyter.widget-view" in text:
        wrong.append("saved widget state")
    if len(notebook.cells) > 30:
        wrong.append("more than 30 cells")
    if len(text) > 300_000:
        wrong.append("more than 300 kB")
    if any(f"{start}{home}/" in text for home in ("/home", "/Users", "/root") for start in ('"', "'", " ")):
        wrong.append("a home path")
    for cell in code:
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!")))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.end_lineno - node.lineno > 7:
                wrong.append(f"{node.name} belongs in the library")
    if not notebook.cells[0].source.startswith("# ") or "What you will learn" not in notebook.cells[0].source:
        wrong.append("does not open with what you will learn")
    if "What to try" not in notebook.cells[-1].source:
        wrong.append("does not end with what to try")
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_saved_notebooks_are_honest(path):
    assert dishonesty(nbformat.read(path, as_version=4), path.read_text()) == []


def test_running_notebooks_anew_marks_what_is_not_compared():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    whole = nbformat.writes(notebook)
    for cell in notebook.cells:
        if "parameters" not in cell.metadata.get("tags", []):
            cell.metadata.pop("tags", None)
    mark(notebook)
    assert nbformat.writes(notebook) == whole


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_parameters_are_the_first_code_cell(path):
    first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert first.metadata.tags == ["parameters"]
    assert read_parameters(path)


def cheat(change):
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    change(notebook, code)
    return dishonesty(notebook, nbformat.writes(notebook))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda n, code: code[-1].update(source="1"), "no check cell"),
        (lambda n, code: code[-1].update(outputs=[]), "a check cell that was never run"),
        (lambda n, code: code[-1].update(source=f"{CHECK}\nprint(1)"), "a check cell that asserts nothing"),
        (lambda n, code: code[1].metadata.update(tags=[]), "a check cell that is not compared, or another that is"),
        (
            lambda n, code: code[-1].metadata.update(tags=["nbval-ignore-output"]),
            "a check cell that is not compared, or another that is",
        ),
        (lambda n, code: code[0].update(execution_count=9), "not run from top to bottom"),
        (
            lambda n, code: code[-1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="beware")),
            "a warning in its output",
        ),
        (lambda n, code: n.metadata.update(widgets={}), "saved widget state"),
        (lambda n, code: n.cells.extend(nbformat.v4.new_markdown_cell() for _ in range(30)), "more than 30 cells"),
        (lambda n, code: code[0].update(source="x" * 300_000), "more than 300 kB"),
        (lambda n, code: code[0].update(source="'/home/me/data'"), "a home path"),
        (lambda n, code: code[0].update(source="def f():\n" + "    1\n" * 9), "f belongs in the library"),
    ],
)
def test_each_rule_is_enforced(change, complaint):
    assert complaint in cheat(change)
