"""Notebooks as web pages for people without a notebook: Voilà runs one for each visitor, and shows no code."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2gnet.checks import nearest, require
from l2gnet.errors import ConfigError
from l2gnet.files import write_text
from l2gnet.jobs.library import find_notebook
from l2gnet.jobs.parameters import checked_values, read_parameters

_OPTIONS = ("--Voila.ip=127.0.0.1", "--no-browser", "--classic-tree", "--show_tracebacks=True")
# Voilà starts a kernel where its notebook lies, but paths are meant from here; and it cannot show bars that are gone.
_FIRST_CELL = """import os

os.chdir({folder!r})
os.environ["TQDM_DISABLE"] = "1"
import tqdm.auto

tqdm.auto.tqdm = tqdm.tqdm
"""


def serve_pages(notebooks: Sequence[str | Path], parameters: Mapping[str, Any], *, port: int = 8866) -> None:
    """Serve notebooks as pages, to this machine only, until Ctrl-C; they run in the current folder.

    Raises:
        ConfigError: as `write_pages` does, and for a port that is none.
    """
    require(0 < port < 2**16, "port", "from 1 to 65535", port)
    with tempfile.TemporaryDirectory() as folder:
        write_pages(notebooks, Path(folder), parameters)
        from voila.app import Voila  # on demand: it takes a second to import

        Voila.launch_instance([folder, *_OPTIONS, f"--port={port}"])


def write_pages(notebooks: Sequence[str | Path], folder: Path, parameters: Mapping[str, Any]) -> None:
    """Write copies of notebooks in which the parameters that each declares have the given values.

    Raises:
        ConfigError: a notebook's name is unknown, a value has the wrong type, or no notebook takes a parameter.
    """
    declared = {path: read_parameters(path) for path in map(find_notebook, notebooks)}
    for name in parameters:
        if not any(name in names for names in declared.values()):
            raise ConfigError(f"-p: unknown parameter {name!r}{nearest(name, sorted(set().union(*declared.values())))}")
    chosen = {}
    for path, names in declared.items():
        given = {name: value for name, value in parameters.items() if name in names}
        values = checked_values(path, names, parameters=given)
        chosen[path] = {name: values[name] for name in given}

    import nbformat  # now that all is checked: they take two seconds to import
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    for path, values in chosen.items():
        page = parameterize_notebook(load_notebook_node(str(path)), values, kernel_name="python3", language="python")
        page.cells.insert(0, nbformat.v4.new_code_cell(_FIRST_CELL.format(folder=str(Path.cwd()))))
        write_text(folder / path.name, nbformat.writes(page) + "\n")
