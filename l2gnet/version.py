"""Which code this is, for what it writes to say so."""

import hashlib
from importlib.metadata import version
from pathlib import Path


def code_version() -> str:
    """The version of this library and a hash of its source files, as in "0.1.0+1a2b3c4d": it changes with any of them.

    A checkout is often neither at a commit nor clean; what was run is in its files.
    """
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"{version('l2gnet')}+{digest.hexdigest()[:8]}"
