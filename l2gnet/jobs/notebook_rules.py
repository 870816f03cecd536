"""Rules that keep saved notebooks honest: a plugin of pytest, off unless `--notebook-rules` is given.

nbval compares text, so a notebook asserts what must hold in *check cells*, which begin with `# NBVAL_CHECK_OUTPUT` and
print what is the same on every machine; all other output is marked not to be compared. These rules see to it that
there are such cells, that a notebook was run from top to bottom, and that nothing is saved with it that should not be.
"""

import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from l2gnet.errors import ConfigError

CHECK, UNCOMPARED, PARAMETERS = "# NBVAL_CHECK_OUTPUT", "nbval-ignore-output", "parameters"
_MOST_CELLS, _MOST_BYTES, _MOST_LINES = 30, 300_000, 8


def mark(cells: list[dict[str, Any]]) -> None:
    """Tag every code cell that is neither the parameters nor a check: nbval runs it, and compares nothing."""
    for cell in cells:
        if cell["cell_type"] == "code" and not _compared(cell):
            cell["metadata"]["tags"] = sorted({*_tags(cell), UNCOMPARED})


def broken_rules(path: Path) -> list[str]:
    """All that is wrong with a saved notebook, in words."""
    from l2gnet.jobs.privacy import home_path  # every start of pytest reads this file

    text = path.read_text(encoding="utf-8")
    try:
        notebook = json.loads(text)
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError):
        return ["no notebook of format 4"]
    outputs = [(place, output) for place, cell in enumerate(code, 1) for output in cell["outputs"]]
    wrong = [*_checks(code), *_parameters(path, code), *_lengthy(code)]
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        wrong.append("not run from top to bottom")
    wrong += _at("an error in its output", (place for place, output in outputs if output["output_type"] == "error"))
    wrong += _at("a warning in its output", (place for place, output in outputs if output.get("name") == "stderr"))
    if "widgets" in notebook["metadata"] or "vnd.jupyter.widget-view" in text:
        wrong.append("saved widget state")
    if len(notebook["cells"]) > _MOST_CELLS:
        wrong.append(f"more than {_MOST_CELLS} cells")
    if len(text) > _MOST_BYTES:
        wrong.append(f"more than {_MOST_BYTES // 1000} kB")
    if home_path().search(text):
        wrong.append("a home path")
    return wrong


def _checks(code: list[dict[str, Any]]) -> Iterator[str]:
    checks = [(place, cell) for place, cell in enumerate(code, 1) if _source(cell).startswith(CHECK)]
    if not checks:
        yield "no check cell"
    not_run = (place for place, cell in checks if cell["execution_count"] is None or not cell["outputs"])
    yield from _at("a check cell that was never run", not_run)
    idle = (place for place, cell in checks if "assert " not in _source(cell))
    yield from _at("a check cell that asserts nothing", idle)
    ignored = [place for place, cell in checks if UNCOMPARED in _tags(cell)]
    others = [(place, cell) for place, cell in enumerate(code, 1) if not _compared(cell)]
    compared = [place for place, cell in others if UNCOMPARED not in _tags(cell)]
    yield from _at("a check cell that is not compared, or another that is", sorted(ignored + compared))


def _at(words: str, places: Iterable[int]) -> Iterator[str]:
    """What is wrong at these places among the code cells, which are their numbers in Jupyter; nothing at none."""
    if found := ", ".join(map(str, dict.fromkeys(places))):
        yield f"{words}: code cell {found}"


def _parameters(path: Path, code: list[dict[str, Any]]) -> Iterator[str]:
    """What papermill would pass over: parameters that are not alone, or not first."""
    from l2gnet.jobs.parameters import read_parameters  # here, as above

    tagged = [cell for cell in code if PARAMETERS in _tags(cell)]
    if not tagged:
        return
    if tagged != code[:1]:
        yield "parameters in another cell than the first"
    try:
        read_parameters(path)
    except ConfigError as error:
        yield str(error)


def _lengthy(code: list[dict[str, Any]]) -> Iterator[str]:
    for cell in code:
        try:
            tree = ast.parse("\n".join(line for line in _source(cell).splitlines() if not line.startswith(("%", "!"))))
        except SyntaxError:  # more of IPython's magic
            continue
        defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for node in defined:
            if (node.end_lineno or 0) - node.lineno >= _MOST_LINES:
                yield f"{node.name} belongs in a library"


def _compared(cell: dict[str, Any]) -> bool:
    return _source(cell).startswith(CHECK) or PARAMETERS in _tags(cell)


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])  # a list of lines, or one text


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that turns the rules on."""
    words = "hold saved notebooks to rules: check cells, run in order, literal parameters, no widget state (l2gnet)"
    parser.getgroup("notebooks").addoption("--notebook-rules", action="store_true", help=words)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect each notebook, if the rules are on."""
    on = file_path.suffix == ".ipynb" and parent.config.getoption("--notebook-rules")
    return _Notebook.from_parent(parent, path=file_path) if on else None


class _Notebook(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield _Rules.from_parent(self, name="rules")


class _Rules(pytest.Item):
    def runtest(self) -> None:
        wrong = broken_rules(self.path)
        if wrong:
            # With its name, as the summary of a test run shows the first line alone, and not always a path.
            pytest.fail("\n".join(f"{self.path.name}: {each}" for each in wrong), pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"rules of {self.path.name}"
