import pytest
from test_cli import command, refused

from l2gnet.cli.notebooks import lab
from l2gnet.jobs.library import brought


def test_notebooks_are_copied_and_copied_again_but_not_over_ones_own(tmp_path):
    for _ in range(2):
        assert command("notebooks", cwd=tmp_path).stdout == f"{len(brought())} files in notebooks\n"
    (tmp_path / "notebooks/01_train.ipynb").write_text("mine")
    refused(command("notebooks", cwd=tmp_path), "notebooks: your files must stay, but 01_train.ipynb would be changed")
    assert (tmp_path / "notebooks/01_train.ipynb").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "01_trian"], "there is no notebook '01_trian'; did you mean '01_train'?"),
        (["run", "01_train", "--profile", "dmeo"], "there is no profile 'dmeo'; did you mean 'demo'?"),
        (["sweep", "compare-adcd"], "there is no sweep 'compare-adcd'; did you mean 'compare-acdc'?"),
        (["app", "02_codebok_usage"], "there is no notebook '02_codebok_usage'; did you mean '02_codebook_usage'?"),
        (["app", "--port", "99999"], "port must be from 1 to 65535, or 0 for any that is free, got 99999"),
        (["lab", "--port", "0"], "port must be from 1 to 65535, got 0"),
    ],
)
def test_a_mistake_ends_in_one_error_and_leaves_nothing(words, message, tmp_path):
    refused(command(*words, cwd=tmp_path), message.replace("?", r"\?"))
    assert list(tmp_path.iterdir()) == []


def test_lab_opens_the_first_notebook_in_a_container_too(monkeypatch, tmp_path):
    from jupyterlab.labapp import LabApp

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LabApp, "launch_instance", lambda options: given.extend(options))
    given = []
    lab(port=9000, browser=False)
    assert given[0] == str(tmp_path / "notebooks/00_start_here.ipynb")
    assert {"--no-browser", "--ServerApp.port=9000", "--ServerApp.allow_root=True"} <= set(given)
    assert not any("--ServerApp.ip" in option for option in given)  # served to this machine alone
