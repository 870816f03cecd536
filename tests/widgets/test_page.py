import base64
import gzip
import json
import re

import numpy as np
import pytest
from dial import Dial
from l2gnet.widgets import save_page
from l2gnet.widgets.page import Part, page, shown


def contents(text):
    """What a page holds: its JSON, and the bytes that follow it."""
    packed = re.search(r'<script id="l2g-data" type="text/plain">(.*?)</script>', text)[1]
    everything = gzip.decompress(base64.b64decode(packed))
    start = 4 + int.from_bytes(everything[:4], "little")
    return json.loads(everything[4:start]), everything[start:]


@pytest.fixture
def dials(front_end):
    dials = [Dial() for _ in range(3)]
    yield dials
    for dial in dials:
        dial.close()


def test_a_page_holds_traits_arrays_and_links(dials, tmp_path):
    one, two, three = dials
    one.link(three)
    one.publish("volume", np.arange(6, dtype=np.int16).reshape(2, 3))
    two.angle = 7
    three.error = "a file of mine"
    path = save_page(tmp_path / "page.html", *dials, title="Dials & more")
    text = path.read_text()
    parts, rest = contents(text)
    assert [part["name"] for part in parts] == ["Dial"] * 3
    assert [part["linked"] for part in parts] == [[2], [], [0]]
    assert [part["traits"]["angle"] for part in parts] == [0, 7, 0]
    assert set(parts[0]["traits"]) == {"angle", "arrays", "error", "selection"}
    assert "a file of mine" not in json.dumps(parts)
    start, stop = parts[0]["arrays"]["volume"]["bytes"]
    assert rest[start:stop] == np.arange(6, dtype=np.int16).tobytes()
    assert text.count("<h1>Dials &amp; more</h1>") == 1
    assert text.count("class Arrays") == 1  # a script that all share is there once
    assert re.findall(r'data-viewer="(\d)"', text) == ["0", "1", "2"]


def test_a_page_fetches_nothing(dials, tmp_path):
    text = dials[0].save(tmp_path / "page.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)\s*=\s*["']|@import url|https?://(?!www\.w3\.org/)""", text)


def test_equal_bytes_are_kept_once():
    traits = {"heat": bytes(100), "more": [{"heat": bytes(100)}, None]}
    part = Part("Dial", "", "", traits, {"volume": bytes(50)})
    parts, rest = contents(page("", shown(0), [part]))
    assert parts[0]["traits"] == {"heat": {"bytes": [0, 100]}, "more": [{"heat": {"bytes": [0, 100]}}, None]}
    assert len(rest) == 150


def test_nothing_and_closed_viewers_cannot_be_saved(dials, tmp_path):
    dials[0].close()
    for viewers in ([], dials):
        with pytest.raises(ValueError, match="a page needs open viewers"):
            save_page(tmp_path / "page.html", *viewers)
    assert list(tmp_path.iterdir()) == []
