import json

import nbformat
from commands import command, refused


def test_parameters_are_listed_with_types_values_and_what_they_are(tmp_path):
    out = command("run", "06_optimal_transport", "--inspect", "-p", "bins", "20", cwd=tmp_path).stdout.splitlines()
    head, first = (line.split(None, 3) for line in out[:2])
    assert head == ["parameter", "type", "value", "what it is"]
    assert first == ["bins", "int", "20", "places of each pile, at least 16"]
    assert len(out) == 5
    assert not list(tmp_path.iterdir())


def test_a_notebook_may_have_no_parameters(tmp_path):
    cell = nbformat.v4.new_code_cell("# none so far", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "bare.ipynb")
    assert command("run", "bare.ipynb", "--inspect", cwd=tmp_path).stdout == "bare.ipynb has no parameters\n"


def test_a_dry_run_says_what_would_run_and_where_and_runs_nothing(tmp_path):
    words = ("run", "06_optimal_transport", "--dry-run", "--runs-dir", "here")
    plain, changed = (command(*words, *more, cwd=tmp_path).stdout for more in ((), ("-p", "seed", "3")))
    assert "06_optimal_transport.ipynb would run, in here/06_optimal_transport-custom-" in plain
    assert plain.endswith("  with its defaults\n")
    assert changed.endswith("\n  seed = 3\n")
    assert changed.splitlines()[0] != plain.splitlines()[0]
    assert not list(tmp_path.iterdir())
    done = tmp_path / changed.splitlines()[0].split(", in ")[1]
    done.mkdir(parents=True)
    (done / "06_optimal_transport.ipynb").write_text("{}")
    (done / "run.json").write_text(json.dumps({"job": done.name}))
    assert "has finished before, and would not run again" in command(*words, "-p", "seed", "3", cwd=tmp_path).stdout


def test_a_dry_run_refuses_what_a_run_would_refuse():
    refused(command("run", "06_optimal_transport", "--dry-run", "-p", "seeds", "3"), "did you mean 'seed'")
