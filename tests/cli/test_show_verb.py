import csv

import folders
from commands import command, refused


def test_a_folder_is_shown_as_a_picture_and_as_tables(tmp_path):
    folders.write_decathlon(tmp_path / "task")
    done = command("data", "show", "task", "--augmented", "--size-px", "48", "--spacing-mm", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Organs: 4 volumes; classes: background, aorta, gallbladder")
    assert lines[1].split() == ["least", "middle", "most", "volumes"]
    assert "axes RAS: 4 of 4 files" in lines
    assert lines[-1] == "seen.png shows what the model sees, seen.csv has a line for each volume"
    names = ", ".join(f"organs_{number:02d}" for number in folders.CASES)
    assert lines[-2] == f"cases in the picture, from 1 on: {names}"
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "seen.csv").open() as file:
        assert [row["volume"] for row in csv.DictReader(file)] == [f"organs_{number:02d}" for number in folders.CASES]


def test_what_cannot_be_shown_is_refused_in_a_line(tmp_path):
    refused(command("data", "show", tmp_path / "nowhere"), "no such file or folder")
    refused(command("data", "show", tmp_path), "the folder must hold a dataset.json")
    refused(command("data", "show", tmp_path, "-o", tmp_path / "seen.jpg"), r"out must be a PNG file, .* got '/")
