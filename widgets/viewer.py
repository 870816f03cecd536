"""The ground all viewers stand on: arrays go to the browser once, events come back, and no error is lost.

A viewer is an anywidget: traits hold its small state, JavaScript in `js/` draws on 2-D canvases. ipywidgets sends a
trait only when the kernel has dealt with the move before, so that moves are coalesced and never queue up.
"""

import io
import traceback
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets
from l2gnet.widgets.crisp import crisp_look, figure_as_image
from l2gnet.widgets.page import FILES, Part, joined, page, shown
from matplotlib.figure import Figure

from l2gnet.errors import VolumeError
from l2gnet.files import write_text

_TYPES = ("uint8", "int16", "uint16", "int32", "float32")  # what the browser has typed arrays for
_OF_WIDGETS = {"layout", "tabbable", "tooltip"}  # traits that ipywidgets gives to all


class RefusedError(RuntimeError):
    """What cannot be done now, in words for whoever asked: they are shown without a place in a program."""


class Viewer(anywidget.AnyWidget):
    """A viewer in the browser, with a static picture for where there is none.

    A subclass names its `script` (a file in `js/`, with a style sheet of the same name if it needs one), publishes
    arrays, keeps its state in synced traits, and draws its picture in `draw`. An event `{event: "name", ...}` from
    its script calls its method `_on_name(...)`.

    `selection` is what the user points at: any of `voxel` [d, h, w], `code` and `reference`, and `by`, the name of the
    one that was clicked last. Linked viewers share it whole: each reads the keys it knows and keeps the others.
    """

    script: ClassVar[str]
    answers: ClassVar[str] = ""  # another one: it stands in for Python in a saved page, with what `page_data` gives it
    held: ClassVar[tuple[str, ...]] = ()  # the attributes that are large, and are gone when it is closed

    selection = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)
    arrays = traitlets.Dict().tag(sync=True)  # of each published array: version, dtype, shape

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Read the viewer's script and style sheet, with those of all that it imports."""
        if "script" in cls.__dict__:
            imported: list[str] = []
            cls._esm = joined(cls.script, imported)
            styles = (FILES / f"{name}.css" for name in (*imported, cls.script))
            cls._css = "\n".join(style.read_text(encoding="utf-8") for style in styles if style.exists())
        super().__init_subclass__(**kwargs)

    def __init__(self, **traits: Any) -> None:
        self._published: dict[str, np.ndarray] = {}
        self._linked: set[Viewer] = set()
        super().__init__(**traits)

    @abstractmethod
    def draw(self) -> Figure:
        """The picture of what the viewer shows now, drawn in Python."""

    def snapshot(self) -> bytes:
        """The picture as PNG, without a browser."""
        stream = io.BytesIO()
        self.draw().savefig(stream, format="png", dpi=100)
        return stream.getvalue()

    def save(self, path: str | Path, *, title: str = "") -> Path:
        """Write one HTML file with the viewer and its data: it needs neither a kernel nor a network."""
        return save_page(path, self, title=title)

    def page_data(self) -> dict[str, Any]:
        """What the script `answers` needs in a saved page: values of JSON, and bytes."""
        return {}

    def page_traits(self) -> dict[str, Any]:
        """The traits as a saved page holds them."""
        return {key: value for key, value in self.get_state().items() if key[0] != "_" and key not in _OF_WIDGETS}

    def page_arrays(self) -> dict[str, np.ndarray]:
        """The published arrays as a saved page holds them."""
        return self._published

    def publish(self, name: str, array: np.ndarray, *, rows: int | None = None, packed: bool = False) -> None:
        """Offer an array to the browser, which fetches it once, in parts along its first axis; anew when it changes.

        The parts around the selected voxel's slice come first. Where the first axis holds the frames of a cine, one
        after the other, each has `rows` of it: only the frame that the trait `frame` names is fetched, then the next.
        Labels (D, H, W), uint8, can be `packed` there, where a large area of one label then takes hardly any memory.

        Raises:
            ValueError: its type is none that the browser knows.
        """
        if array.dtype.name not in _TYPES or array.ndim == 0:
            raise ValueError(
                f"a published array must have an axis and a type of {', '.join(_TYPES)}; "
                f"got {name} of shape {array.shape} and type {array.dtype}; convert it first"
            )
        self._published[name] = np.ascontiguousarray(array)
        version = self.arrays.get(name, {"version": 0})["version"] + 1
        offer = {"version": version, "dtype": array.dtype.name, "shape": list(array.shape)}
        offer |= {} if rows in (None, len(array)) else {"rows": rows}
        offer |= {"packed": True} if packed else {}
        self.arrays = {**self.arrays, name: offer}

    def link(self, *others: "Viewer") -> None:
        """Share one selection with other viewers, until one of the two is closed."""
        for other in others:
            self._linked.add(other)
            other._linked.add(self)
            other.selection = self.selection

    def close(self) -> None:
        """Leave the browser, and free all memory that is held here and there."""
        if self.comm is None:
            return
        for other in self._linked:
            other._linked.discard(self)
        self._linked.clear()
        self._published.clear()
        for name in self.held:
            self.__dict__.pop(name, None)
        self.unobserve_all()
        self.layout.close()
        super().close()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take over what the browser changed; an error of an observer appears in the status line."""
        with self._reporting():
            super().set_state(sync_data)

    def _handle_custom_msg(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        with self._reporting():
            details = dict(content)
            details |= {"parts": buffers} if buffers else {}
            getattr(self, f"_on_{details.pop('event')}")(**details)

    def _on_fetch(self, array: str, version: int, start: int, stop: int) -> None:
        """Send a part of an array, unless it has been replaced: then the browser asks again."""
        if version == self.arrays[array]["version"]:
            part = self._published[array][start:stop]
            self.send({"array": array, "version": version, "start": start}, [part.reshape(-1).view(np.uint8).data])

    @traitlets.observe("selection")
    def _share_selection(self, change: dict[str, Any]) -> None:
        for other in self._linked:
            other.selection = change["new"]

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        # ipywidgets would write the error to a log that nobody reads.
        words = ""
        try:
            yield
        except (VolumeError, RefusedError) as error:  # for whoever asked: words, and no place in a program
            words = str(error)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
        if words:
            self.error = ""  # a browser hears of changes alone, and may have hidden the same words
            self.error = words

    def __repr__(self) -> str:
        return type(self).__name__

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle[0]["text/html"] = self._still()
        return bundle

    def _still(self) -> str:
        """What a saved notebook shows, as an HTML image."""
        with crisp_look():
            return figure_as_image(self.draw())


def save_page(path: str | Path, *viewers: Viewer, title: str = "") -> Path:
    """Write viewers and their data to one HTML file that needs neither a kernel nor a network; links are kept.

    Slices, overlays and selections work there as here; what only Python can do is disabled.

    Raises:
        ValueError: no viewer is given, or one was closed.
    """
    heading = f"<h1>{escape(title)}</h1>\n" if title else ""
    saved = f"Saved on {date.today():%d %B %Y} with l2gnet {version('l2gnet')}; research only."
    parts = parts_of(viewers)
    places = "\n".join(map(shown, range(len(parts))))
    body = f'{heading}{places}\n<p class="page-note">{saved}</p>'
    write_text(path, page(title or ", ".join(part.name for part in parts), body, parts))
    return Path(path)


def parts_of(viewers: Sequence[Viewer]) -> list[Part]:
    """Viewers as a page holds them.

    Raises:
        ValueError: there are none, or one was closed.
    """
    if not viewers or any(viewer.comm is None for viewer in viewers):
        raise ValueError(f"a page needs open viewers, got {len(viewers)}, of which some are closed; make them anew")
    return [_part_of(viewer, viewers) for viewer in viewers]


def _part_of(viewer: Viewer, viewers: Sequence[Viewer]) -> Part:
    arrays = viewer.page_arrays()
    offers = {name: viewer.arrays[name] | {"shape": list(array.shape)} for name, array in arrays.items()}
    return Part(
        name=type(viewer).__name__,
        script=str(viewer._esm),
        style=str(viewer._css),
        traits=viewer.page_traits() | {"arrays": offers, "error": ""},  # an error may name a file
        arrays={name: array.tobytes() for name, array in arrays.items()},
        answers=joined(viewer.answers) if viewer.answers else "",
        data=viewer.page_data(),
        linked=tuple(place for place, other in enumerate(viewers) if other in viewer._linked),
    )
