import os
import re
from pathlib import Path

import pytest
import yaml

from l2gnet.errors import ConfigError
from l2gnet.jobs import library
from l2gnet.jobs.library import brought, copy_notebooks, find_notebook, find_profile, find_sweep, notebooks_here
from l2gnet.jobs.run import plan_job
from l2gnet.jobs.sweep_file import read_sweep

OURS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_where_nothing_is_the_library_brings_all():
    assert find_notebook("01_train") == OURS / "01_train.ipynb"
    assert find_profile("demo", find_notebook("01_train")) == OURS / "profiles/demo.yaml"
    assert find_sweep("compare-acdc") == OURS / "jobs/compare-acdc.yaml"
    assert {path.name for path in library.PAGES} == {path.stem for path in OURS.glob("0[234]_*.ipynb")}
    assert all(find_notebook(path).is_file() for path in library.PAGES)


def test_ones_own_come_first():
    touch("notebooks/01_train.ipynb", "notebooks/profiles/demo.yaml", "notebooks/jobs/compare-acdc.yaml")
    assert find_notebook("01_train") == Path("notebooks/01_train.ipynb")
    assert find_profile("demo", OURS / "01_train.ipynb") == Path("notebooks/profiles/demo.yaml")
    assert find_sweep("compare-acdc") == Path("notebooks/jobs/compare-acdc.yaml")
    touch("01_train.ipynb", "profiles/demo.yaml", "jobs/compare-acdc.yaml")
    assert find_notebook("01_train") == Path("01_train.ipynb")
    assert find_profile("demo", OURS / "01_train.ipynb") == Path("profiles/demo.yaml")
    assert find_sweep("compare-acdc") == Path("jobs/compare-acdc.yaml")
    touch("study/profiles/demo.yaml")
    assert find_profile("demo", Path("study/01_train.ipynb")) == Path("study/profiles/demo.yaml")


def test_a_path_stays_one():
    touch("01_train", "study/01_train")
    assert find_notebook("none.ipynb") == Path("none.ipynb")
    assert find_notebook("notebooks/01_train") == Path("notebooks/01_train")
    assert find_notebook("01_train") == Path("01_train")  # a file of this very name
    assert find_notebook("../work.ipynb", Path("study")) == Path("study/../work.ipynb")
    assert find_profile("demo.yaml", OURS / "01_train.ipynb") == Path("demo.yaml")
    assert find_sweep(OURS / "jobs/demo.yaml") == OURS / "jobs/demo.yaml"


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda: find_notebook("01_trian"), r"there is no notebook '01_trian'; did you mean '01_train'\?"),
        (lambda: find_notebook("xyz"), "there is no notebook 'xyz'; there are 00_start_here, 01_train, "),
        (lambda: find_notebook("x" * 999), "there is no notebook 'x{100}'; there are"),
        (lambda: find_profile("dmeo", Path("a.ipynb")), r"there is no profile 'dmeo'; did you mean 'demo'\?"),
        (lambda: find_sweep("compare-adcd"), r"there is no sweep 'compare-adcd'; did you mean 'compare-acdc'\?"),
    ],
)
def test_an_unknown_name_names_the_nearest(find, message):
    with pytest.raises(ConfigError, match=message):
        find()


def test_a_job_and_a_sweep_by_name(tmp_path):
    job = plan_job("01_train", profile="demo")
    assert (job.notebook, job.name[:14]) == (OURS / "01_train.ipynb", "01_train-demo-")
    sweep = read_sweep("demo", parameters={})
    assert {run.job.notebook.resolve() for run in sweep.runs} == {OURS / "01_train.ipynb"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"notebook": "01_train", "grid": {"epochs": [3]}}))
    assert read_sweep("own.yaml", parameters={}).runs[0].job.notebook == OURS / "01_train.ipynb"


def test_a_copy_holds_all_and_is_found():
    assert notebooks_here() is None
    assert copy_notebooks("notebooks") == len(brought())
    assert {path.relative_to("notebooks") for path in Path("notebooks").rglob("*.*")} == {
        path.relative_to(OURS) for path in brought()
    }
    assert all(Path("notebooks", path.relative_to(OURS)).read_bytes() == path.read_bytes() for path in brought())
    assert {path.suffix for path in brought()} == {".ipynb", ".yaml", ".sbatch"}
    assert notebooks_here() == Path("notebooks")
    os.chdir("notebooks")
    assert notebooks_here() == Path()


def test_what_is_yours_is_not_overwritten():
    touch("mine/notes.ipynb")
    assert copy_notebooks("mine") == len(brought())
    Path("mine/01_train.ipynb").unlink()
    copy_notebooks("mine")  # what is unchanged is no hindrance
    assert Path("mine/01_train.ipynb").is_file()
    Path("mine/profiles/demo.yaml").write_text("model: unet\n")
    Path("mine/00_start_here.ipynb").unlink()
    with pytest.raises(
        ConfigError, match=r"^mine: your files must stay, but profiles/demo\.yaml would be changed; name"
    ):
        copy_notebooks("mine")
    assert Path("mine/profiles/demo.yaml").read_text() == "model: unet\n"
    assert not Path("mine/00_start_here.ipynb").exists()  # nothing was written


@pytest.mark.parametrize("file", ["mine", "mine/out/jobs", "mine/out"])
def test_a_file_where_a_folder_should_be_is_said(file):
    touch(file)
    with pytest.raises(ConfigError, match=re.escape(f"mine/out: notebooks are copied to a folder, but {file} is a")):
        copy_notebooks("mine/out")
    assert [str(path) for path in Path().rglob("*") if path.is_file()] == [file]
