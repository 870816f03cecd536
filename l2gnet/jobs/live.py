"""Viewers as pages of their own, live, without a notebook: a small server that does what a kernel and JupyterLab do.

It serves this machine alone, and whoever knows the token in the address.
"""

import json
import secrets
import socket
import webbrowser
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

import comm
from comm.base_comm import BaseComm
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

from l2gnet.checks import require
from l2gnet.errors import ConfigError
from l2gnet.widgets.page import FILES
from l2gnet.widgets.viewer import Viewer

_MOST_BYTES = 64 << 20  # of a message: scans come in parts of a few megabytes
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="live.css">
<main id="viewer"><p id="wait" role="status">Opening {title} …</p></main>
<script type="module" src="live.js"></script>
</html>
"""
_INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>L2GNet</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="live.css">
<main id="index">
<h1>L2GNet</h1>
<p>Medical images, segmented by discrete codes that optimal transport relates. For research and teaching, not for
clinical use. Nothing leaves this machine.</p>
{cards}
</main>
</html>
"""


_NOWHERE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Nothing is here</title>
<link rel="icon" href="data:,">
<p>Nothing is here: open the address that the program prints. It is a new one each time that the program starts.</p>
</html>
"""


class LiveViewer:
    """A viewer that is made when the first page asks for it, and shared by all pages.

    Args:
        make: makes it.
        title: of the page, for example the name of the model.
        words: what one can do there, for an index of several.
    """

    def __init__(self, make: Callable[[], Viewer], title: str, words: str = ""):
        self.make, self.title, self.words = make, title, words
        self.pages: set[_Socket] = set()
        self._viewer: Viewer | None = None
        self._loop = IOLoop.current()

    @property
    def viewer(self) -> Viewer:
        """The viewer; it is made on first use, with a comm that leads to the pages."""
        if self._viewer is None:
            before, comm.create_comm = comm.create_comm, partial(_PageComm, self._say)
            try:
                self._viewer = self.make()
            finally:
                comm.create_comm = before
        return self._viewer

    def hear(self, data: dict[str, Any], parts: list[bytes]) -> None:
        """Take a message of a page."""
        message = {"content": {"data": data}, "buffers": [memoryview(part) for part in parts]}
        self.viewer.comm.handle_msg(message)

    def afterwards(self, call: Callable[[], None]) -> None:
        """Call when all that has been said is passed on."""
        self._loop.add_callback(call)

    def _say(self, source: BaseComm, data: dict[str, Any], parts: list[bytes]) -> None:
        """Pass a message of the viewer on to all pages; a long task sends it from a thread of its own."""
        if self._viewer is not None and source is self._viewer.comm:
            self._loop.add_callback(self._tell, data, parts)

    def _tell(self, data: dict[str, Any], parts: list[bytes]) -> None:
        for page in self.pages:
            page.tell(data, parts)


class _PageComm(BaseComm):
    """What a widget speaks through, in the place of a kernel's."""

    def __init__(self, say: Callable[[BaseComm, dict[str, Any], list[bytes]], None], **options: Any):
        self._say = say
        super().__init__(**options)

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any) -> None:
        """Pass on what a widget says; that it opens and closes, the page sees for itself."""
        if msg_type == "comm_msg":
            self._say(self, data, [bytes(part) for part in buffers or ()])


def live_app(viewers: Sequence[LiveViewer], token: str) -> Application:
    """The pages of viewers, all below a path that only those know who are told; of several there is an index."""
    start = f"/{token}/"
    handlers: list[Any] = []
    for number, live in enumerate(viewers):
        path = start if len(viewers) == 1 else f"{start}{number + 1}/"
        own = {"live": live}
        files = (path + "([a-z]+[.](?:js|css))", _File, own)
        handlers += [(path, _Page, own), files, (path + "socket", _Socket, own)]
    if len(viewers) > 1:
        handlers += [(start, _Index, {"viewers": viewers}), (start + "(live[.]css)", _File, {"live": viewers[0]})]
    return Application(handlers, default_handler_class=_Nowhere, websocket_max_message_size=_MOST_BYTES)


def serve_live(viewers: Sequence[LiveViewer], title: str, *, port: int, browser: bool = True) -> None:
    """Serve viewers to browsers of this machine, until Ctrl-C.

    Raises:
        ConfigError: the port is none, or taken.
    """
    require(0 <= port < 2**16, "port", "from 1 to 65535, or 0 for any that is free", port)
    token = secrets.token_urlsafe(16)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(
            f"port must be one that is free, got {port}: {error.strerror}; choose another, or 0"
        ) from error
    listening.setblocking(False)
    HTTPServer(live_app(viewers, token), max_buffer_size=_MOST_BYTES).add_socket(listening)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/"
    print(f"{title}: {address}\nstop it with Ctrl-C", flush=True)
    if browser:
        webbrowser.open(address)
    try:
        IOLoop.current().start()
    except KeyboardInterrupt:
        print()


class _Index(RequestHandler):
    """What there is, in words."""

    def initialize(self, viewers: Sequence[LiveViewer]) -> None:
        self.viewers = viewers

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        cards = [
            f'<a class="card" href="{number}/"><b>{escape(live.title)}</b><span>{escape(live.words)}</span></a>'
            for number, live in enumerate(self.viewers, start=1)
        ]
        self.write(_INDEX.format(cards="\n".join(cards)))


class _Nowhere(RequestHandler):
    """Any other address, most often that of a program that has ended."""

    def prepare(self) -> None:
        self.set_status(404)
        self.finish(_NOWHERE)


class _Page(RequestHandler):
    """The page itself, which is there before the viewer is."""

    def initialize(self, live: LiveViewer) -> None:
        self.live = live

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write(_PAGE.format(title=escape(self.live.title)))


class _File(RequestHandler):
    """Scripts and style sheets: those of the page, and those of the viewer."""

    def initialize(self, live: LiveViewer) -> None:
        self.live = live

    def get(self, name: str) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "text/javascript" if name.endswith(".js") else "text/css")
        match name:
            case "live.js" | "live.css":
                self.write((FILES / name).read_text(encoding="utf-8"))
            case "viewer.js":
                self.write(str(self.live.viewer._esm))
            case "viewer.css":
                self.write(str(self.live.viewer._css))
            case _:
                raise HTTPError(404)


class _Socket(WebSocketHandler):
    """Messages between a page and the viewer: JSON that says how many binary frames follow it."""

    def initialize(self, live: LiveViewer) -> None:
        self.live = live
        self._waiting: dict[str, Any] = {}
        self._parts: list[bytes] = []

    def open(self, *args: str, **kwargs: str) -> None:
        try:
            viewer = self.live.viewer
        except Exception as error:
            self.write_message(json.dumps({"failed": f"{type(error).__name__}: {error}"}))
            raise
        self.live.pages.add(self)
        viewer.send_state()

    def on_close(self) -> None:
        self.live.pages.discard(self)

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._waiting, self._parts = json.loads(message), []
        else:
            self._parts.append(message)
        if len(self._parts) == self._waiting["parts"]:
            self.live.hear(self._waiting["data"], self._parts)
            if self._waiting["data"]["method"] == "update":
                self.live.afterwards(self._done)  # when the page has heard what the viewer says of it

    def _done(self) -> None:
        if self in self.live.pages:
            self.write_message(json.dumps({"done": True}))

    def tell(self, data: dict[str, Any], parts: list[bytes]) -> None:
        """Send a message of the viewer to this page."""
        self.write_message(json.dumps({"data": data, "parts": len(parts)}))
        for part in parts:
            self.write_message(part, binary=True)
