import os

import nbformat
import pytest
import tqdm.auto

from l2gnet.errors import ConfigError
from l2gnet.jobs.pages import write_pages


@pytest.fixture
def notebooks(tmp_path):
    paths = []
    for name, line in {"one": "size: int = 3  # of it", "two": 'colour: str = "red"  # of it'}.items():
        cell = nbformat.v4.new_code_cell(line, metadata={"tags": ["parameters"]})
        paths.append(tmp_path / f"{name}.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell("1 / 0")]), paths[-1])
    return paths


def run(path):
    """What the cells before the last leave behind."""
    names = {}
    for cell in nbformat.read(path, as_version=4).cells[:-1]:
        exec(cell.source, names)
    return names


def test_each_page_gets_the_parameters_that_it_declares(notebooks, tmp_path, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "")
    monkeypatch.setattr(tqdm.auto, "tqdm", tqdm.auto.tqdm)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages").mkdir()
    write_pages(notebooks, tmp_path / "pages", {"size": "7"})
    monkeypatch.chdir(tmp_path / "pages")
    one, two = (run(tmp_path / "pages" / path.name) for path in notebooks)
    assert (one["size"], two["colour"], "size" in two) == (7, "red", False)
    assert one["os"].getcwd() == str(tmp_path)  # relative paths are meant from where the pages are served
    assert (tqdm.auto.tqdm, os.environ["TQDM_DISABLE"]) == (tqdm.tqdm, "1")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"length": 1}, "unknown parameter 'length'; there are colour, size"),
        ({"size": "x"}, "must be of type"),
    ],
)
def test_what_no_page_can_take_is_refused(notebooks, tmp_path, parameters, message):
    with pytest.raises(ConfigError, match=message):
        write_pages(notebooks, tmp_path, parameters)
