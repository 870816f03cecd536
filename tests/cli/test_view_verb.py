"""`l2gnet view`: what is wrong is said before anything is opened, and the page is served."""

import re
import subprocess
import sys
from urllib.request import urlopen

import pytest
from commands import command, refused, save_model


def test_what_is_mistyped_is_refused(tmp_path):
    refused(command("view", "phantom-hart"), r"phantom-hart.*phantom-heart")
    refused(command("view", "phantom-heart", "--other", "phantom-hart"), "phantom-heart")
    refused(command("view", "phantom-heart", tmp_path / "none.nii"), r"none\.nii")
    refused(command("view", "phantom-heart", "--port", "70000"), "port must be from 1 to 65535")
    (tmp_path / "labels.nii").write_bytes(b"")
    refused(
        command("view", "phantom-heart", "--labels", tmp_path / "labels.nii"),
        "labels must be none, or one for each of 0 scans, got 1",
    )


def test_help_says_what_it_is():
    result = command("view", "--help")
    assert result.returncode == 0
    for words in ("Open the workbench", "--other", "--labels", "phantom-heart"):
        assert words in result.stdout


def test_it_serves_a_page_and_ends(tmp_path):
    model = save_model(tmp_path / "mine.safetensors")
    line = [sys.executable, "-m", "l2gnet", "view", str(model), "--no-browser"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = re.fullmatch(r"mine: (http://127\.0\.0\.1:\d+/\S+/)\n", server.stdout.readline())[1]
            assert b"<title>mine</title>" in urlopen(address).read()
        finally:
            server.send_signal(2)
        assert server.wait(60) == 0
        assert "Traceback" not in server.stderr.read()


@pytest.mark.parametrize("words", [("--labels", "a.nii", "b.nii")])
def test_labels_belong_to_scans(tmp_path, words):
    (tmp_path / "scan.nii").write_bytes(b"")
    model = save_model(tmp_path / "mine.safetensors")
    refused(command("view", model, tmp_path / "scan.nii", *words, cwd=tmp_path), "one for each of 1 scans, got 2")
    (tmp_path / "scans").mkdir()  # a folder is as many as it holds
    for name in ("a.nii", "b.nii", "c.nii"):
        (tmp_path / "scans" / name).write_bytes(b"")
    refused(command("view", model, tmp_path / "scans", *words, cwd=tmp_path), "one for each of 3 scans, got 2")
