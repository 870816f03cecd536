"""Which code this is, for what it writes to say so."""

import hashlib
from importlib.metadata import version
from pathlib import Path


def code_version() -> str:
    """The version of this library and a hash of its source files, as in "0.2.0+1a2b3c4d": it changes with any of them.

    A checkout is often neither at a commit nor clean; what was run is in its files. The viewers do not count: they
    change no result, and lie in the package only where it was installed from a wheel.
    """
    package, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        if package / "widgets" not in file.parents:
            digest.update(file.read_bytes())
    return f"{version('l2gnet')}+{digest.hexdigest()[:8]}"
