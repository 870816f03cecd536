import gzip
import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2gnet.data.volume import Volume, read_volume, write_labels
from l2gnet.errors import ConfigError
from l2gnet.jobs.privacy import find_identifiers, read_names, scrubbed

ROOT = Path(__file__).parents[2]
HOME = "/home/" + "jdoe"  # in parts, so that this file may be checked too


def kinds(path, names=()):
    return [(finding.where, finding.kind, finding.words) for finding in find_identifiers(path, names)]


def test_the_projects_own_notebooks_are_clean():
    runs = ROOT / "notebooks/runs"  # of whoever has run them here
    assert [found for found in find_identifiers(ROOT / "notebooks") if not found.file.is_relative_to(runs)] == []


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (f"open {HOME}/scans/a.nii", "a home path", HOME),
        ('"/Users/' + 'jane.doe/x"', "a home path", "/Users/" + "jane.doe"),
        ("cd /root", "a home path", "/root"),
        ("at /cluster/" + f"{HOME[1:]}/x", "a home path", f"/cluster{HOME}"),
        (f"file://{HOME}/x", "a home path", HOME),
        (f"\x1b[32m{HOME}/x", "a home path", HOME),
        (rf'"in\n{HOME}/x"', "a home path", HOME),
        (r'"C:\\Users\\' + r'Jane\\x"', "a home path", r"C:\\Users\\" + "Jane"),
        ("/mnt/hospital/x", "a data path", "/mnt/hospital"),
        ("/data/acdc", "a data path", "/data/acdc"),
        ("ask j.doe+x@uni-klinik.example.org!", "an e-mail address", "j.doe+x@uni-klinik.example.org"),
    ],
)
def test_what_identifies_is_found_with_its_place(tmp_path, text, kind, words):
    (tmp_path / "notes.txt").write_text(f"first line\n{text}\n")
    found = kinds(tmp_path)
    assert ("line 2", kind, words) in found
    assert {where for where, _, _ in found} == {"line 2"}


@pytest.mark.parametrize(
    "text",
    ["data/acdc", "/usr/lib/python3.11", "https://example.org/home/page", "./home/x", "/path/to/data", "@media", "a@b"],
)
def test_ordinary_text_is_left_alone(tmp_path, text):
    (tmp_path / "notes.txt").write_text(text)
    assert kinds(tmp_path) == []


def test_ones_own_home_is_known_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/u/jdoe")
    (tmp_path / "notes.txt").write_text("in /u/jdoe/x, /u/jdoe-2 and /bu/jdoe")
    assert kinds(tmp_path) == [("line 1", "a home path", "/u/jdoe")]
    assert scrubbed("in /u/jdoe/x", {}) == "in ~/x"
    monkeypatch.setenv("HOME", "/")  # as of a user without one
    assert scrubbed("/u/jdoe/x", {}) == "/u/jdoe/x"


@pytest.mark.parametrize("text", ["Jane Doe", "JANE^DOE", "doe_jane", "Doe, Jane", "scan of jane-doe."])
def test_names_are_found_however_they_are_written(tmp_path, text):
    (tmp_path / "a.json").write_text(json.dumps({"who": text}))
    assert [kind for _, kind, _ in kinds(tmp_path, ["Jane Doe"])] == ["a name"]
    assert kinds(tmp_path) == []


@pytest.mark.parametrize("text", ["Janet Doe", "Jane and John Doe", "doe", "janedoe"])
def test_other_names_are_not(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert kinds(tmp_path, ["Jane Doe"]) == []


def test_names_of_files_and_text_in_binary_files_are_read(tmp_path):
    (tmp_path / "doe_jane.bin").write_bytes(bytes(range(128, 256)) + f"{HOME}/runs".encode() + b"\xff")
    assert kinds(tmp_path, ["Jane Doe"]) == [("its name", "a name", "doe_jane"), ("text 1", "a home path", HOME)]


def image(extension=b"", **fields):
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).header
    header["magic"], header["vox_offset"] = b"n+1", 352 + len(extension)
    for name, words in fields.items():
        header[name] = words
    return header.binaryblock + bytes([bool(extension), 0, 0, 0]) + extension + bytes(8)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("field", ["descrip", "aux_file", "intent_name", "data_type", "db_name"])
def test_free_text_of_a_header_is_found(tmp_path, suffix, field):
    data = image(**{field: b"Jane Doe"})
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(data, mtime=0) if suffix == ".nii.gz" else data)
    assert kinds(tmp_path) == [(field, "free text", "Jane Doe")]


def test_extensions_and_the_name_that_gzip_keeps_are_found(tmp_path):
    extension = np.array([32, 6], "<i4").tobytes() + b"born 1970-01-01 Jane\0\0\0\0"
    with (tmp_path / "a.nii.gz").open("wb") as raw, gzip.GzipFile("Jane Doe.nii", "wb", fileobj=raw) as file:
        file.write(image(extension))
    assert kinds(tmp_path) == [
        ("gzip header", "a file name or comment", "Jane Doe.nii"),
        ("between header and voxels", "an extension", "born 1970-01-01 Jane"),
    ]


def test_what_cannot_be_read_does_not_pass_for_clean(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8b\x08\x00nonsense")
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM")
    found = [kind for _, kind, _ in kinds(tmp_path)]
    assert found == ["an image that cannot be read", "a DICOM file, which names its patient"]
    with pytest.raises(ConfigError, match="there is no such file or folder"):
        find_identifiers(tmp_path / "missing")


def test_files_behind_links_and_in_other_encodings_are_read(tmp_path):
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("Jane Doe")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "b.txt").write_text("by\nJörg Müller", encoding="utf-16")
    (tmp_path / "here" / "c.csv").write_text("Jörg Müller;j.doe@clinic.example.org", encoding="latin-1")
    assert kinds(tmp_path / "here", ["Jane Doe", "Jörg Müller"]) == [
        ("line 2", "a name", "Jörg Müller"),
        ("line 1", "an e-mail address", "j.doe@clinic.example.org"),
        ("line 1", "a name", "Jörg Müller"),
        ("line 1", "a name", "Jane Doe"),
    ]


def test_what_is_packed_is_read_or_named(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros((2, 2)), names=np.array(["Doe_Jane_frame01"]))
    np.save(tmp_path / "b.npy", np.zeros(2))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "c.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.xml", "Jane Doe")
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(b"Jane Doe"))
    with zipfile.ZipFile(tmp_path / "e.ckpt", "w") as archive:
        archive.writestr("data.pkl", "by Jane Doe.")
    (tmp_path / "f.zip").write_bytes(b"PK\x03\x04 nonsense")
    archive = "an archive, into which nobody looked"
    assert [(found.file.name, found.kind) for found in find_identifiers(tmp_path, ["Jane Doe"])] == [
        ("a.npz", "a name"),
        ("b.npz", "arrays that cannot be read"),
        ("c.docx", archive),
        ("d.json.gz", archive),
        ("e.ckpt", "a name"),
        ("f.zip", archive),
    ]


def test_exported_labels_are_clean(tmp_path):
    extension = np.array([16, 6], "<i4").tobytes() + b"Jane Doe"
    (tmp_path / "scan.nii").write_bytes(image(extension, descrip=b"Jane Doe", db_name=b"clinic"))
    scan = read_volume(tmp_path / "scan.nii")
    (tmp_path / "out").mkdir()
    write_labels(tmp_path / "out" / "a.nii.gz", scan.like(np.ones(scan.shape, np.uint8)))
    write_labels(tmp_path / "out" / "b.nii", Volume(np.ones((2, 2, 2), np.uint8), np.eye(4)))
    assert len(kinds(tmp_path / "scan.nii")) >= 3
    assert kinds(tmp_path / "out", ["Jane Doe"]) == []


def test_secrets_and_home_paths_are_taken_out_of_plain_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secrets = {"data_dir": "clinic/scans", "token": "hunter2hunter2", "short": "code", "pin": 1234, "none": ""}
    secrets["truth"] = ["clinic/first.nii", "clinic/second.nii"]
    value = {
        "paths": [f"{HOME}/x", "clinic/scans/a.nii", f"{tmp_path}/clinic/scans", f"{tmp_path}/clinic/scans2"],
        "text": "hunter2hunter2 in code, hunter2hunter2s",
        "list": "read clinic/second.nii",
        "number": 1234,
    }
    assert scrubbed(value, secrets) == {
        "paths": ["~/x", "[data_dir]/a.nii", "[data_dir]", f"{tmp_path}/clinic/scans2"],
        "text": "[token] in code, hunter2hunter2s",
        "list": "read [truth]",
        "number": 1234,
    }


def test_a_list_of_names_has_one_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("Jane Doe\n\n  John Smith \n")
    assert read_names(tmp_path / "names.txt") == ["Jane Doe", "John Smith"]
    (tmp_path / "names.txt").write_text("\n--\n")
    with pytest.raises(ConfigError, match="must have a name a line"):
        read_names(tmp_path / "names.txt")
    with pytest.raises(ConfigError, match="must be a text file"):
        read_names(tmp_path / "missing.txt")


def test_of_weights_the_header_is_read_and_the_noise_is_not(tmp_path):
    header = b'{"__metadata__": {"data_dir": "/home/jane/scans"}}'
    noise = b"\x80\x01" + rb"~C:\scans\jane" + b"\xff"
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + noise)
    assert [found.words for found in find_identifiers(tmp_path)] == ["/home/jane"]
