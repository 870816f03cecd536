from pathlib import Path

import nbformat
import pytest
from test_run import write_notebook

from l2gnet.errors import ConfigError
from l2gnet.jobs.parameters import Parameter, checked_values, read_parameters
from l2gnet.jobs.privacy import SECRET
from l2gnet.training.run_folder import LOCAL
from l2gnet.training.settings import PARTS, TrainSettings

TRAIN = Path(__file__).parents[2] / "notebooks" / "01_train.ipynb"


def test_parameters_are_read_from_their_cell(tmp_path):
    declared = read_parameters(write_notebook(tmp_path))
    assert declared["count"] == Parameter("count", "int", 3, "how many")
    assert [parameter.default for parameter in declared.values()] == [3, 0.5, "a", False, [1, 2], "", False]


@pytest.mark.parametrize(
    "line",
    [
        "count = 3  # no type",
        "count: int = 3",
        'count: int = "3"  # another type',
        "count: int = 1 + 2  # derived",
        "count: dict = {}  # a type that no command line can give",
        "share: float = 1e999  # infinite",
        "sizes: list = [b'1']  # not plain",
        "import os",
        "count: int = (",
        "[" * 5000,
    ],
)
def test_a_parameters_cell_must_be_plain(tmp_path, line):
    with pytest.raises(ConfigError, match="a line of the parameters cell must be `name: type = literal  # help`"):
        read_parameters(write_notebook(tmp_path, parameters=line))


def test_files_that_are_no_job_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no such notebook"):
        read_parameters(tmp_path / "missing.ipynb")
    for text in ("hello", "[]", "{}", '{"cells": [{"source": 3}], "metadata": {}}', '{"worksheets": []}', "[" * 99999):
        (tmp_path / "text.ipynb").write_text(text)
        with pytest.raises(ConfigError, match="must be a Jupyter notebook"):
            read_parameters(tmp_path / "text.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "bare.ipynb")
    with pytest.raises(ConfigError, match="needs a cell tagged 'parameters'"):
        read_parameters(tmp_path / "bare.ipynb")


def test_the_training_notebook_and_the_command_line_take_the_same_settings():
    declared = read_parameters(TRAIN)
    assert declared.pop("run_dir").default == ""
    assert TrainSettings.from_mapping({name: p.default for name, p in declared.items()}) == TrainSettings()
    assert list(declared) == list(TrainSettings.__dataclass_fields__)


def test_what_the_training_notebook_keeps_secret_are_the_paths_of_this_machine():
    secret = {name for name, parameter in read_parameters(TRAIN).items() if parameter.help.endswith(SECRET)}
    assert secret == set(LOCAL)


def test_the_training_notebook_groups_its_settings_by_the_rooms_that_own_them():
    (cell,) = (
        cell for cell in nbformat.read(TRAIN, as_version=4).cells if "parameters" in cell.metadata.get("tags", ())
    )
    groups = {}
    for line in cell.source.split("\n"):
        if line.startswith("# "):
            names = groups[line.removeprefix("# ")] = []
        elif line:
            names.append(line.partition(":")[0])
    owners = dict(zip(("Model", "Data", "Optimisation", "Run"), PARTS, strict=True))
    assert groups.pop("Run") == [*owners.pop("Run").__dataclass_fields__, "run_dir"]
    assert groups == {title: list(part.__dataclass_fields__) for title, part in owners.items()}


@pytest.mark.parametrize("found", [{}, {"settings": "Other"}, {"settings": ["TrainSettings"]}])
def test_settings_that_a_notebook_names_must_be_known(tmp_path, found):
    notebook = write_notebook(tmp_path, l2gnet=found)
    if not found:
        assert checked_values(notebook, read_parameters(notebook))["count"] == 3
        return
    with pytest.raises(ConfigError, match=r"work\.ipynb: settings in its metadata must be TrainSettings, got"):
        checked_values(notebook, read_parameters(notebook))
