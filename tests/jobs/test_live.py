"""The server of a live viewer, spoken to as a page does."""

import asyncio
import json
from contextlib import asynccontextmanager

import numpy as np
import pytest
import traitlets
from l2gnet.widgets.page import FILES
from l2gnet.widgets.viewer import Viewer
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.websocket import websocket_connect

from l2gnet.errors import ConfigError
from l2gnet.jobs.live import LiveViewer, live_app, serve_live

SET_FOUR = {"method": "update", "state": {"number": 4}, "buffer_paths": []}
CLIENTS = []  # of the server that runs


class Small(Viewer):
    script = "workbench"
    number = traitlets.Int(0, max=9).tag(sync=True)
    double = traitlets.Int(0).tag(sync=True)

    def draw(self):
        raise NotImplementedError

    @traitlets.observe("number")
    def _on_number(self, change):
        self.double = 2 * change["new"]

    def _on_mean(self, parts):
        self.number = int(np.frombuffer(parts[0], np.uint8).mean())
        self.send({"heard": len(parts)}, [b"ab", b"c"])


@asynccontextmanager
async def served(make=Small, others=()):
    live = LiveViewer(make, "a <model>")
    CLIENTS.clear()
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(live_app([live, *others], "secret"))
    server.add_sockets(sockets)
    try:
        yield live, f"127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        for client in CLIENTS:
            client.close()
            while await client.read_message() is not None:
                pass
            await asyncio.sleep(0)
        server.stop()
        await server.close_all_connections()
        if live._viewer is not None:
            live.viewer.close()


async def get(host, path):
    return await AsyncHTTPClient().fetch(f"http://{host}/{path}")


async def connect(host, **headers):
    socket = await websocket_connect(HTTPRequest(f"ws://{host}/secret/socket", headers=headers))
    CLIENTS.append(socket)
    return socket


async def heard(socket):
    """The next message with its parts."""
    message = json.loads(await socket.read_message())
    return message, [await socket.read_message() for _ in range(message.get("parts", 0))]


def test_page_and_scripts():
    async def check():
        async with served() as (live, host):
            page = await get(host, "secret/")
            assert b"<title>a &lt;model&gt;</title>" in page.body
            assert page.headers["Cache-Control"] == "no-store"
            assert live._viewer is None  # the page does not wait for it
            assert (await get(host, "secret/live.js")).body == (FILES / "live.js").read_bytes()
            script = await get(host, "secret/viewer.js")
            assert script.headers["Content-Type"] == "text/javascript"
            assert script.body.decode() == Small._esm
            assert (await get(host, "secret/viewer.css")).headers["Content-Type"] == "text/css"

    asyncio.run(check())


@pytest.mark.parametrize("path", ["", "secret", "other/", "other/viewer.js", "secret/other.js", "secret/viewer.py"])
def test_nothing_else_is_there(path):
    async def check():
        async with served() as (_, host):
            with pytest.raises(HTTPClientError, match="404") as missing:
                await get(host, path)
            told = b"open the address that the program prints" in missing.value.response.body
            assert told == (path != "secret/other.js")  # which no person asks for

    asyncio.run(check())


def test_only_this_page_may_speak():
    asking = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "a"}

    async def check():
        async with served() as (live, host):
            for path, origin, status in (("secret", "elsewhere.example", 403), ("guess", host, 404)):
                headers = {**asking, "Origin": f"http://{origin}"}
                with pytest.raises(HTTPClientError, match=str(status)):
                    await AsyncHTTPClient().fetch(f"http://{host}/{path}/socket", headers=headers)
            assert live.pages == set()

    asyncio.run(check())


def test_a_page_and_the_viewer_speak_with_each_other():
    async def check():
        async with served() as (live, host):
            one, two = [await connect(host, Origin=f"http://{host}") for _ in range(2)]
            for socket in (one, two):
                message, _ = await heard(socket)
                assert message["data"]["method"] == "update"
                assert message["data"]["state"]["number"] == 0
            await heard(one)  # that of the second, told to all
            await one.write_message(json.dumps({"data": SET_FOUR, "parts": 0}))
            told = [(await heard(one))[0] for _ in range(3)]
            assert {"done": True} in told
            states = [message["data"]["state"] for message in told if "data" in message]
            assert states == [{"number": 4}, {"double": 8}]  # the first is an echo, for the other page
            assert [(await heard(two))[0]["data"]["state"] for _ in range(2)] == states
            assert live.viewer.number == 4
            content = {"method": "custom", "content": {"event": "mean"}}
            await two.write_message(json.dumps({"data": content, "parts": 2}))
            await two.write_message(bytes([5, 7]), binary=True)
            await two.write_message(b"x", binary=True)
            states = {}
            for _ in range(3):
                message, parts = await heard(one)
                states |= message["data"].get("state", {})
            assert (states["number"], states["double"]) == (6, 12)
            assert (message["data"]["content"], parts) == ({"heard": 2}, [b"ab", b"c"])
            one.close()
            CLIENTS.remove(one)
            while len(live.pages) == 2:
                await asyncio.sleep(0.01)
            assert len(live.pages) == 1

    asyncio.run(check())


def test_an_error_is_told_and_the_viewer_lives():
    async def check():
        async with served() as (live, host):
            socket = await connect(host)
            await heard(socket)
            await socket.write_message(
                json.dumps({"data": {"method": "update", "state": {"number": 10}, "buffer_paths": []}, "parts": 0})
            )
            told = [(await heard(socket))[0] for _ in range(3)]
            assert {"done": True} in told
            assert "TraitError" in live.viewer.error

    asyncio.run(check())


def test_a_viewer_that_cannot_be_made_says_why():
    def make():
        raise ConfigError("data_dir must be a folder; give one")

    async def check():
        async with served(make) as (live, host):
            socket = await connect(host)
            assert (await heard(socket))[0] == {"failed": "ConfigError: data_dir must be a folder; give one"}
            assert await socket.read_message() is None
            socket.close()
            CLIENTS.remove(socket)
            assert live.pages == set()

    asyncio.run(check())


def test_several_viewers_have_an_index_and_pages_of_their_own():
    async def check():
        others = [LiveViewer(Small, "the <other>", "what it does")]
        async with served(others=others) as (live, host):
            index = (await get(host, "secret/")).body.decode()
            assert '<a class="card" href="2/"><b>the &lt;other&gt;</b><span>what it does</span></a>' in index
            assert b"<title>the &lt;other&gt;</title>" in (await get(host, "secret/2/")).body
            assert (await get(host, "secret/live.css")).headers["Content-Type"] == "text/css"
            assert (await get(host, "secret/1/live.js")).body == (FILES / "live.js").read_bytes()
            for path in ("secret/3/", "secret/live.js", "secret/viewer.js"):
                with pytest.raises(HTTPClientError, match="404"):
                    await get(host, path)
            assert live._viewer is None

    asyncio.run(check())


def test_a_port_that_is_taken():
    (taken,) = bind_sockets(0, "127.0.0.1")
    with taken, pytest.raises(ConfigError, match=r"port must be one that is free, got \d+: Address already in use"):
        serve_live([LiveViewer(Small, "a")], "a", port=taken.getsockname()[1])


def test_a_port_that_is_none():
    with pytest.raises(ConfigError, match="port must be from 1 to 65535, or 0 for any that is free, got 65536"):
        serve_live([LiveViewer(Small, "a")], "a", port=65536)
