import pytest

from l2gnet.errors import ConfigError
from l2gnet.jobs.plain_yaml import read_yaml


def test_plain_values_come_as_they_are(tmp_path):
    (tmp_path / "a.yaml").write_text("count: 7\nshare: 0.5\nname: b\ngrid: {seed: [0, 1]}\n")
    assert read_yaml(tmp_path / "a.yaml", "a file") == {"count": 7, "share": 0.5, "name": "b", "grid": {"seed": [0, 1]}}


LAUGHS = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, r"got: an alias, \*a; write the value out"),  # four hundred bytes, a thousand million zeros
        ("a: &a {b: *a}", "an alias"),
        ("a: 1\nb: 2\na: 3", "a twice; remove one"),
        ("x: {a: 1, a: 2}", "a twice"),
        ("a: !!python/object/apply:os.mkdir [owned]", "could not determine a constructor"),
        ("a: " + "[" * 30_000, "maximum recursion depth exceeded"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: " + "b" * 70_000, "more than 64 KiB"),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("- a", "got list"),
        ("", "got NoneType"),
        ("3: 4", "got 3"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_anything_else_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"a\.yaml: a file must be .*{message}"):
        read_yaml(tmp_path / "a.yaml", "a file")


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "a.yaml", tmp_path):
        with pytest.raises(ConfigError, match="must be YAML of plain values"):
            read_yaml(path, "a file")
    with pytest.raises(ConfigError, match=r"b\.yaml: there is no such file or folder; did you mean '.*a\.yaml'\?"):
        read_yaml(tmp_path / "b.yaml", "a file")
