"""Pictures and viewers for notebooks; they may use `l2gnet`, never the other way round."""

import importlib
from typing import Any

from l2gnet.extras import explained

_HOME = {
    "CodebookExplorer": "l2gnet.widgets.codebook_explorer",
    "Sand": "l2gnet.widgets.sand",
    "ScanDesk": "l2gnet.widgets.scan_desk",
    "SliceViewer": "l2gnet.widgets.slice_viewer",
    "TrainingMonitor": "l2gnet.widgets.training_monitor",
    "TransportExplorer": "l2gnet.widgets.transport_explorer",
    "Workbench": "l2gnet.widgets.workbench",
    "save_page": "l2gnet.widgets.viewer",
}
__all__ = [
    "CodebookExplorer",
    "Sand",
    "ScanDesk",
    "SliceViewer",
    "TrainingMonitor",
    "TransportExplorer",
    "Workbench",
    "save_page",
]


def __getattr__(name: str) -> Any:
    """Import a viewer on first use, so that a picture need not wait for what the viewers need (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        raise explained(error) from None
