"""A front end without a browser: it records what viewers send, and speaks as their JavaScript does."""

import comm
import pytest
from comm.base_comm import BaseComm


class RecordingComm(BaseComm):
    def __init__(self, *args, sent, **kwargs):
        self.sent = sent
        super().__init__(*args, **kwargs)

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        self.sent.append((self.comm_id, msg_type, data, buffers))


class FrontEnd:
    """`sent` holds every message of every widget as (model id, kind, data, buffers)."""

    def __init__(self):
        self.sent = []

    def open_comm(self, **kwargs):
        return RecordingComm(sent=self.sent, **kwargs)

    def change(self, viewer, **state):
        """Traits changed in the browser."""
        self._speak(viewer, {"method": "update", "state": state, "buffer_paths": []})

    def event(self, viewer, event, **details):
        """`view.send(event, details)` in the browser."""
        self._speak(viewer, {"method": "custom", "content": {"event": event, **details}})

    def drop(self, viewer, name, start, size, part, **which):
        """`view.send("drop", ..., [part])` in the browser."""
        content = {"event": "drop", "name": name, "start": start, "size": size} | which
        self._speak(viewer, {"method": "custom", "content": content}, [memoryview(part)])

    def drop_files(self, viewer, *files):
        """Files (name, bytes) that are dropped together, each in two parts."""
        for number, (name, data) in enumerate(files):
            half, taken = max(1, len(data) // 2), 0
            while 0 <= taken < len(data):
                part = data[taken : taken + half]
                self.drop(viewer, name, taken, len(data), part, number=number, count=len(files))
                taken = [content["taken"] for content in self.said(viewer) if "taken" in content][-1]
            if taken < 0:
                return

    def said(self, viewer):
        """The messages that the viewer has sent so far, without their buffers."""
        messages = [data for model, _, data, _ in self.sent if model == viewer.model_id and data]
        return [data["content"] for data in messages if data.get("method") == "custom"]

    def fetched(self, viewer):
        """The parts of arrays that the viewer has sent so far: (content, bytes)."""
        return [
            (data["content"], bytes(buffers[0]))
            for model, kind, data, buffers in self.sent
            if model == viewer.model_id and kind == "comm_msg" and data["method"] == "custom"
        ]

    def _speak(self, viewer, data, parts=()):
        viewer.comm.handle_msg({"content": {"data": data}, "buffers": list(parts)})


@pytest.fixture
def front_end(monkeypatch):
    front_end = FrontEnd()
    monkeypatch.setattr(comm, "create_comm", front_end.open_comm)
    return front_end
