"""Pictures and viewers for notebooks; they may use `l2gnet`, never the other way round."""

from widgets.slice_viewer import SliceViewer

__all__ = ["SliceViewer"]
