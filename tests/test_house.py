"""The house: rooms one above the other; what stands higher may use what stands lower, never the other way round."""

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "cli",
    "jobs",
    "widgets",
    "training",
    "inspection",
    "evaluation",
    "prediction",
    "models",
    "data",
    "method",
    "ground",
)
APART = {"data", "method"}  # side by side: neither uses the other
PICTURES = {"IPython", "anywidget", "ipywidgets", "matplotlib", "plotly"}
NO_ROOM = {"l2gnet", "l2gnet.__main__"}  # the front door, which leads everywhere


@functools.cache
def imports() -> dict[str, set[str]]:
    """The modules that each module of the library imports, also inside functions."""
    found = {}
    for folder, package in ((ROOT / "l2gnet", "l2gnet"), (ROOT / "widgets", "l2gnet.widgets")):
        for file in folder.rglob("*.py"):
            name = ".".join([package, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
            found[name] = names_in(file.read_text())
    known = set(found)
    return {
        name: {
            target if target in known or not target.startswith("l2gnet") else target.rpartition(".")[0]
            for target in targets
        }
        for name, targets in found.items()
    }


def names_in(code: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(module: str) -> str:
    second = module.split(".")[1] if "." in module else ""
    return second if second in ROOMS else "ground"


def upward(module: str, target: str) -> bool:
    if module in NO_ROOM or not target.startswith("l2gnet"):
        return False
    here, there = room(module), room(target)
    return ROOMS.index(there) < ROOMS.index(here) or (here != there and {here, there} == APART)


def test_arrows_run_down_only():
    assert [(module, target) for module in imports() for target in imports()[module] if upward(module, target)] == []


def test_no_file_leads_back_to_itself():
    try:
        TopologicalSorter(
            {module: targets & imports().keys() - {module} for module, targets in imports().items()}
        ).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' -> '.join(circle.args[1])}")


def test_an_arrow_that_runs_up_is_seen():
    assert upward("l2gnet.method.codebook", "l2gnet.training.run")
    assert upward("l2gnet.data.grid", "l2gnet.method.codebook")
    assert not upward("l2gnet.training.run", "l2gnet.method.codebook")
    assert names_in("def f():\n    from l2gnet.data import grid") == {"l2gnet.data.grid"}


def test_below_the_jobs_only_widgets_draw():
    low = [module for module in imports() if room(module) in ROOMS[ROOMS.index("widgets") + 1 :]]
    assert [(m, t) for m in low for t in imports()[m] if t.split(".")[0] in PICTURES] == []


def test_notebooks_are_used_by_nobody():
    assert [module for module, targets in imports().items() for t in targets if t.split(".")[0] == "notebooks"] == []


@pytest.mark.parametrize("name", ROOMS[:-1])
def test_a_room_says_at_its_door_what_it_is_for(name):
    folder = ROOT / "widgets" if name == "widgets" else ROOT / "l2gnet" / name
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def test_every_room_is_on_the_map():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert [name for name in ROOMS[:-1] if f"`{name}/`" not in text] == []


def test_files_are_short():
    files = [file for folder in ("l2gnet", "widgets") for file in (ROOT / folder).rglob("*.py")]
    assert [file.name for file in files if len(file.read_text().splitlines()) > 350] == []
