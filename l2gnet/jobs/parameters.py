"""The parameters of a notebook: what its cell declares, and the checked values that a profile and a user give them.

Papermill accepts unknown names and wrong types silently, hence the checks here.
"""

import ast
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2gnet.checks import exists, nearest, nearest_path
from l2gnet.errors import ConfigError
from l2gnet.jobs.library import find_profile
from l2gnet.jobs.plain_yaml import read_yaml
from l2gnet.training.settings import TrainSettings

_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
_SETTINGS = {"TrainSettings": TrainSettings}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `name: type = literal  # help`."""

    name: str
    type: str
    default: Any
    help: str


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook, from the cell tagged `parameters`.

    Raises:
        ConfigError: there is no such notebook, no such cell, or a line of it is not `name: type = literal  # help`.
    """
    path = Path(notebook)
    source = _read(path).parameters
    if source is None:
        raise ConfigError(f"{path}: a job needs a cell tagged 'parameters', found none; add one as the first code cell")
    return _parse_parameters(source, path)


def checked_values(
    notebook: Path,
    declared: Mapping[str, Parameter],
    *,
    profile: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A value for each declared parameter: its default, under the profile's, under the given one.

    Raises:
        ConfigError: a parameter or setting is unknown, of the wrong type or out of range.
    """
    values = {name: parameter.default for name, parameter in declared.items()}
    for source, given in ((f"profile {profile}", read_profile(notebook, profile)), ("-p", parameters or {})):
        values |= {name: _convert(declared, name, value, source) for name, value in given.items()}
    _check_settings(notebook, values)
    return values


def read_profile(notebook: Path, profile: str | Path | None) -> dict[str, Any]:
    """The settings of a profile: a YAML file, or the name of one, as `find_profile` finds it."""
    if profile is None:
        return {}
    path = find_profile(profile, notebook)
    if not exists(path):
        raise ConfigError(f"{path}: there is no such profile{nearest_path(path)}")
    return read_yaml(path, "a profile")


@dataclass(frozen=True)
class _Notebook:
    """What a job must know of a notebook: its parameters cell, and the settings that its metadata name."""

    parameters: str | None
    settings: Any


def _read(path: Path) -> _Notebook:
    """Read a notebook as the JSON that it is, since nbformat takes a second to import."""
    if not exists(path):
        raise ConfigError(f"{path}: there is no such notebook{nearest_path(path)}")
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        tagged = [cell["source"] for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ())]
        settings = notebook["metadata"].get("l2gnet", {}).get("settings")
        return _Notebook("".join(tagged[0]) if tagged else None, settings)
    except Exception as error:  # anything may be missing, or something else, in a damaged file
        raise ConfigError(f"{path}: a job must be a Jupyter notebook, got: {error!r:.300}") from error


def _parse_parameters(source: str, path: Path) -> dict[str, Parameter]:
    rule = "a line of the parameters cell must be `name: type = literal  # help`"
    parameters = {}
    lines = source.splitlines()
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path}: {rule}; got {error}") from error
    for statement in statements:
        line = lines[statement.lineno - 1]
        try:
            match statement:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind), value=ast.expr() as value):
                    parameters[name] = Parameter(name, kind, ast.literal_eval(value), line.split("  # ", 1)[1])
                case _:
                    raise ValueError
            if type(parameters[name].default) is not _TYPES[kind]:
                raise ValueError
            _require_plain(parameters[name].default)
        except (ValueError, KeyError, IndexError, TypeError):
            raise ConfigError(f"{path}: {rule}, with a type of {', '.join(_TYPES)}; got {line!r}") from None
    return parameters


def _convert(declared: Mapping[str, Parameter], name: str, value: Any, source: str) -> Any:
    """A value as its parameter's type; text (from the command line) is read as that type."""
    if name not in declared:
        raise ConfigError(f"{source}: unknown parameter {name!r}{nearest(name, declared)}")
    kind = _TYPES[declared[name].type]
    if isinstance(value, str) and kind is not str:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    try:
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise TypeError
        _require_plain(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        rule = f"must be of type {kind.__name__}{' and finite' * isinstance(error, ValueError)}"
        raise ConfigError(f"{source}: {name} {rule}, got {repr(value)[:200]}; {declared[name].help}") from None
    return value


def _require_plain(value: Any) -> None:
    """Raise TypeError or ValueError unless a value, and all that a list holds, can be kept in a job's record."""
    json.dumps(value, sort_keys=True, allow_nan=False)


def _check_settings(notebook: Path, values: Mapping[str, Any]) -> None:
    """Let the dataclass that the notebook names in its metadata check the ranges."""
    name = _read(notebook).settings
    if name is not None:
        if name not in list(_SETTINGS):
            raise ConfigError(f"{notebook}: settings in its metadata must be {', '.join(_SETTINGS)}, got {name!r}")
        settings = _SETTINGS[name]
        settings.from_mapping({key: values[key] for key in values if key in settings.__dataclass_fields__})
