"""The command in a process of its own, and a model for it."""

import re
import subprocess
import sys

from l2gnet.data.grid import Grid
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint

SMALL = {"classes": 4, "width": 4, "depth": 2, "codes": 8, "code_dim": 8, "references": 4}


def command(*words, cwd=None, before=""):
    """Run the command; `before` is Python that runs first, in the same process."""
    line = [sys.executable, "-c", f"{before}\nfrom l2gnet.cli.main import main\nmain()", *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120)


def refused(result, message):
    """One clear line, status 2 and no traceback."""
    assert result.returncode == 2
    assert re.search(message, result.stderr + result.stdout), result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def save_model(path):
    card = ModelCard("l2gnet", SMALL, ("background", "a", "b", "c"), Grid(1.5, 32), {"data": "phantom"})
    save_checkpoint(path, build_model("l2gnet", **SMALL), card)
    return path
