"""`l2gnet privacy`: who could be known by a file, before it is passed on."""

import sys
from pathlib import Path
from typing import Annotated

import tyro


def check(path: Annotated[Path, tyro.conf.Positional], names: Path | None = None) -> None:
    """Find what may tell who a patient or a user is, before a notebook, a run folder or an image is passed on.

    Args:
        path: A file, or a folder with all that is below it.
        names: A text file with the names of patients to look for, one a line.
    """
    from l2gnet.jobs.privacy import find_identifiers, read_names

    findings = find_identifiers(path, read_names(names) if names else ())
    print("\n".join(map(str, findings)) or "nothing found")
    if findings:
        sys.exit(1)
