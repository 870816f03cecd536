"""A start loads what it uses: each of these libraries costs seconds, or nearly one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    "h5py",
    "kornia",
    "lightning",
    "matplotlib",
    "monai",
    "pandas",
    "plotly",
    "scipy.interpolate",
    "scipy.ndimage",
    "scipy.spatial",
    "scipy.stats",
    "sympy",
    "torch._dynamo",
    "torchmetrics",
    "vector_quantize_pytorch",
}
PASSES = """
import torch
from l2gnet import build_model
from l2gnet.models import MODELS
for name in MODELS:
    model = build_model(name, width=4, depth=2)
    model.trace(torch.randn(2, 1, 32, 32)).logits.sum().backward()
    model.eval()(torch.randn(2, 1, 32, 32))
"""


def imports_of(verb):
    """The imports of a verb of the command, at the top of its file and within it."""
    module = ast.parse((ROOT / "l2gnet" / "cli" / f"{verb}.py").read_text())
    function = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == verb)
    nodes = [node for node in (*module.body, *ast.walk(function)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(nodes) > 5
    return "\n".join(map(ast.unparse, nodes))


@pytest.mark.parametrize(
    "code",
    [
        "from l2gnet import L2GMapper, solve_transport",
        PASSES,
        imports_of("predict"),
        imports_of("evaluate"),
        "from l2gnet.models.checkpoint import load_checkpoint; load_checkpoint('phantom-heart')",
    ],
    ids=["public names", "models", "predict", "evaluate", "a checkpoint"],
)
def test_what_is_not_used_is_not_loaded(code):
    tell = f"import sys; print(*sorted({HEAVY} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
