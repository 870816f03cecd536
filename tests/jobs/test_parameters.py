from pathlib import Path

import nbformat
import pytest
from test_run import write_notebook

from l2gnet.errors import ConfigError
from l2gnet.jobs.parameters import Parameter, read_parameters
from l2gnet.training.settings import TrainSettings


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
        "import os",
    ],
)
def test_a_parameters_cell_must_be_plain(tmp_path, line):
    with pytest.raises(ConfigError, match="a line of the parameters cell must be `name: type = literal  # help`"):
        read_parameters(write_notebook(tmp_path, parameters=line))


def test_files_that_are_no_job_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no such notebook"):
        read_parameters(tmp_path / "missing.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(ConfigError, match="must be a Jupyter notebook"):
        read_parameters(tmp_path / "text.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "bare.ipynb")
    with pytest.raises(ConfigError, match="needs a cell tagged 'parameters'"):
        read_parameters(tmp_path / "bare.ipynb")


def test_the_training_notebook_and_the_command_line_take_the_same_settings():
    declared = read_parameters(Path(__file__).parents[2] / "notebooks" / "01_train.ipynb")
    assert declared.pop("run_dir").default == ""
    assert TrainSettings.from_mapping({name: p.default for name, p in declared.items()}) == TrainSettings()
    assert list(declared) == list(TrainSettings.__dataclass_fields__)
