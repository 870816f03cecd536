import errno
import json
import os
import time

import pytest

from l2gnet.errors import ConfigError
from l2gnet.files import atomic_path, sole_writer, write_json, write_text


def test_a_file_appears_whole(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"x": [1, 2]})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"x": [1, 2]}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_text(path, "old")

    def write_half():
        with atomic_path(path) as temporary:
            assert temporary.name.endswith(".nii.gz")
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_writer_left_is_removed_after_a_day(tmp_path):
    old, new = tmp_path / ".writing-a.npz", tmp_path / ".writing-b.npz"
    for remains, hours in ((old, 25), (new, 23)):
        remains.touch()
        os.utime(remains, (written := time.time() - hours * 3600, written))
    write_text(tmp_path / "a.json", "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == [new.name, "a.json"]


@pytest.mark.parametrize("ending", [".nii.gz", ".json"])
def test_a_name_of_any_length_can_be_written(tmp_path, ending):
    """As those of DICOM, in which nearly all is suffix."""
    path = tmp_path / f"1.2.{'7' * (251 - len(ending))}{ending}"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_disk_without_locks_is_refused_in_words(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with (
        pytest.raises(ConfigError, match="must lie where files can be locked, got: No locks available; name one"),
        sole_writer(tmp_path / ".lock"),
    ):
        pass


def test_json_refuses_what_json_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []
