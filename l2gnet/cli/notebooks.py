"""`l2gnet notebooks` and `l2gnet lab`: the notebooks of the library, in a folder of your own and in a browser."""

from pathlib import Path
from typing import Annotated

import tyro

import l2gnet.widgets
from l2gnet.checks import require
from l2gnet.jobs.library import copy_notebooks, notebooks_here

_EXTENSIONS = Path(l2gnet.widgets.__file__).parent / "lab"  # of a checkout; a wheel puts them where JupyterLab looks


def copy_out(folder: Annotated[Path, tyro.conf.Positional] = Path("notebooks")) -> None:
    """Copy the notebooks, their profiles and job files to a folder, to read and change them there.

    Args:
        folder: Where they go; files of yours that are there already are not overwritten.
    """
    print(f"{copy_notebooks(folder)} files in {folder}")


def lab(port: int = 8888, browser: bool = True) -> None:
    """Open the notebooks in JupyterLab, at the first; where there are none yet, they are copied to notebooks/ before.

    Args:
        port: Where JupyterLab is served, or the next port that is free: http://localhost:PORT.
        browser: Open a browser.
    """
    from jupyterlab.labapp import LabApp  # on demand: it takes a second to import

    require(0 < port < 2**16, "port", "from 1 to 65535", port)
    folder = notebooks_here()
    if folder is None:
        copy_out(folder := Path("notebooks"))
    first = folder.resolve() / "00_start_here.ipynb"
    options = [str(first)] if first.exists() else []
    options += [f"--ServerApp.root_dir={folder.resolve()}", f"--ServerApp.port={port}"]
    options.append("--ServerApp.allow_root=True")  # in a container one is; served to this machine alone
    if _EXTENSIONS.exists():
        options.append(f"--LabApp.extra_labextensions_path={_EXTENSIONS}")
    LabApp.launch_instance(options if browser else [*options, "--no-browser"])
