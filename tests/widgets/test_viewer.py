import gc
import re
import weakref

import ipywidgets
import numpy as np
import pytest
from dial import Dial

from l2gnet import widgets


@pytest.fixture
def dial(front_end):
    dial = Dial()
    yield dial
    dial.close()


def test_a_viewer_that_is_none_is_told_of_by_the_name_of_the_package():
    with pytest.raises(AttributeError, match=r"module 'l2gnet\.widgets' has no attribute 'Lens'"):
        widgets.Lens  # noqa: B018


@pytest.mark.parametrize("name", [name for name in widgets.__all__ if name[0].isupper()])
def test_the_files_of_a_script_share_no_name(name):
    """They are joined to one, which a browser would not even read."""
    declared = re.findall(r"(?m)^(?:async )?(?:const|let|function\*?|class) (\w+)", getattr(widgets, name)._esm)
    assert len(declared) > 20
    assert sorted(declared) == sorted(set(declared))


def test_events_call_methods_and_traits_follow_the_browser(front_end, dial):
    front_end.event(dial, "turn", by=5)
    assert dial.angle == 5
    front_end.change(dial, angle=7)
    assert dial.angle == 7
    assert dial.error == ""


@pytest.mark.parametrize("cause", ["event", "observer", "unknown event", "wrong value"])
def test_errors_are_shown_and_the_viewer_lives_on(front_end, dial, cause):
    if cause == "event":
        front_end.event(dial, "jam")
        assert dial.error.startswith("RuntimeError: the dial is stuck (dial.py, line ")
    elif cause == "observer":
        dial.observe(lambda change: 1 / 0, "angle")
        front_end.change(dial, angle=1)
        assert dial.error.startswith("ZeroDivisionError: division by zero (test_viewer.py, line ")
    elif cause == "unknown event":
        front_end.event(dial, "explode")
        assert "_on_explode" in dial.error
    else:
        front_end.change(dial, angle="up")
        assert dial.error.startswith("TraitError: ")
    updates = [data["state"] for _, kind, data, _ in front_end.sent if kind == "comm_msg" and "state" in data]
    assert {"error": dial.error} in updates
    dial.unobserve_all("angle")
    front_end.change(dial, angle=3, error="")
    assert (dial.angle, dial.error) == (3, "")


def test_the_same_error_is_told_each_time(front_end, dial):
    """A browser hears of changes alone, and may have hidden what it was told before."""
    for _ in range(2):
        front_end.event(dial, "jam")
    states = [data.get("state", {}) for _, kind, data, _ in front_end.sent if kind == "comm_msg"]
    told = [state["error"] for state in states if "error" in state]
    assert told == [dial.error, "", dial.error]
    assert dial.error


def test_an_error_of_the_users_own_assignment_is_raised(dial):
    dial.observe(lambda change: 1 / 0, "angle")
    with pytest.raises(ZeroDivisionError):
        dial.angle = 1


def test_arrays_are_sent_once_in_the_parts_that_are_asked_for(front_end, dial):
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    dial.publish("volume", array)
    assert dial.arrays == {"volume": {"version": 1, "dtype": "int16", "shape": [4, 3, 2]}}
    assert front_end.fetched(dial) == []
    front_end.event(dial, "fetch", array="volume", version=1, start=1, stop=3)
    assert front_end.fetched(dial) == [({"array": "volume", "version": 1, "start": 1}, array[1:3].tobytes())]


def test_a_part_of_a_replaced_array_is_not_sent(front_end, dial):
    dial.publish("plan", np.zeros((2, 2), np.float32))
    dial.publish("plan", np.ones((3, 2), np.float32))
    front_end.event(dial, "fetch", array="plan", version=1, start=0, stop=2)
    assert front_end.fetched(dial) == []
    front_end.event(dial, "fetch", array="plan", version=2, start=0, stop=3)
    assert front_end.fetched(dial)[0][1] == np.ones(6, np.float32).tobytes()


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros(3, bool), np.float32(1)])
def test_arrays_that_the_browser_does_not_know_are_refused(dial, array):
    with pytest.raises(ValueError, match="a published array must"):
        dial.publish("a", np.asarray(array))


def test_linked_viewers_share_one_selection(front_end, dial):
    other, third = Dial(), Dial()
    dial.link(other, third)
    front_end.change(other, selection={"code": 3, "voxel": [1, 2, 3]})
    assert dial.selection == third.selection == {"code": 3, "voxel": [1, 2, 3]}
    other.close()
    front_end.change(dial, selection={"code": 4})
    assert (third.selection, other.selection["code"]) == ({"code": 4}, 3)
    third.close()


def test_an_error_in_a_linked_viewer_is_shown(front_end, dial):
    other = Dial()
    dial.link(other)
    other.observe(lambda change: 1 / 0, "selection")
    front_end.change(dial, selection={"code": 1})
    assert dial.error.startswith("ZeroDivisionError")
    other.close()


def test_a_saved_notebook_shows_a_picture(dial):
    data, _ = dial._repr_mimebundle_()
    assert data["text/html"].startswith("<img ")
    assert 'src="data:image/svg+xml,' in data["text/html"]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == dial.model_id
    assert data["text/plain"] == "Dial"
    assert dial.snapshot().startswith(b"\x89PNG")


def test_the_module_is_one_file():
    assert "import {" not in Dial._esm
    assert "class Arrays" in Dial._esm
    assert ".l2g-viewer" in Dial._css


def test_close_frees_everything(front_end):
    widgets_before = len(ipywidgets.widgets.widget._instances)
    held = []
    other = Dial()
    for _ in range(100):
        dial = Dial()
        array = np.zeros((10, 100), np.uint8)
        held += [weakref.ref(dial), weakref.ref(array)]
        dial.publish("volume", array)
        dial.link(other)
        dial.observe(lambda change: None, "angle")
        dial.close()
        dial.close()  # twice does no harm
        del dial, array
    other.close()
    gc.collect()
    assert [reference for reference in held if reference() is not None] == []
    assert len(ipywidgets.widgets.widget._instances) == widgets_before
