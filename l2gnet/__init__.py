"""L2GNet: discrete codes related globally by optimal transport, for medical image segmentation."""

import importlib
from typing import Any

_HOME = {
    "L2GMapper": "l2gnet.method.mapper",
    "TransportPlan": "l2gnet.method.transport",
    "build_model": "l2gnet.models",
    "solve_transport": "l2gnet.method.transport",
}
__all__ = ["L2GMapper", "TransportPlan", "build_model", "solve_transport"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `l2gnet --help` need not wait for torch (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'l2gnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
