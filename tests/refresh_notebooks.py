"""Run notebooks in place, from top to bottom in a fresh kernel, and keep their output: `make notebooks`.

Name notebooks to run only these. Widget state and dead progress bars are left out. What is not the same on every
machine, all but check cells, is marked for nbval not to compare.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from l2gnet.files import write_text
from l2gnet.jobs.notebook_rules import mark
from l2gnet.jobs.run import scrub


def refresh(path: Path) -> None:
    """Execute one notebook and write it back, without the times and versions that would change at every run."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook = scrub(notebook, secrets={})
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    mark(notebook.cells)
    write_text(path, nbformat.writes(notebook) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")):
        print(name, flush=True)
        refresh(Path(name))
