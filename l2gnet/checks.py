"""Checks of what users give: settings, names and paths; what breaks a rule is refused in words."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from l2gnet.errors import ConfigError

T = TypeVar("T")
MOST = 2**31 - 1  # what every library takes for a count


def require(holds: bool, name: str, rule: str, value: Any, remedy: str = "") -> None:
    """Raise ConfigError, saying what setting `name` must be, unless its value holds to the rule."""
    if not holds:
        raise ConfigError(f"{name} must be {rule}, got {value!r}{remedy}")


def require_path(*paths: str | Path) -> None:
    """Raise ConfigError, naming the nearest that there is, unless each is a file or a folder."""
    for path in paths:
        if not exists(path):
            raise ConfigError(f"{path}: there is no such file or folder{nearest_path(path)}")


def require_choices(settings: Any) -> None:
    """Check every setting whose type is a Literal against its choices."""
    for field in dataclasses.fields(settings):
        choices, value = get_args(field.type), getattr(settings, field.name)
        require(not choices or value in choices, field.name, f"one of {', '.join(map(str, choices))}", value)


def require_least(settings: Any, least: int, *names: str, most: int = MOST) -> None:
    """Check that each of these settings is at least and at most so large."""
    for name in names:
        value = getattr(settings, name)
        rule = f"at least {least}" if least else "0 or more, and finite"
        require(least <= value <= most, name, rule if value < least or value != value else f"at most {most}", value)


def require_positive(settings: Any, *names: str) -> None:
    """Check that each of these settings is finite and above 0."""
    for name in names:
        require(0 < getattr(settings, name) < float("inf"), name, "above 0 and finite", getattr(settings, name))


def checked_settings(kind: type[T], values: Mapping[str, Any]) -> T:
    """Settings of this kind from a file, a notebook or a command line: names and types of the values are checked.

    Raises:
        ConfigError: a name is unknown, or a value has another type or is out of range.
    """
    types = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    checked = {}
    for name, value in values.items():
        if name not in types:
            raise ConfigError(f"unknown setting {name!r}{nearest(name, types)}")
        wanted: Any = str if get_args(types[name]) else types[name]
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ConfigError(f"{name} must be of type {wanted.__name__}, got {value!r} of type {type(value).__name__}")
        checked[name] = value
    return kind(**checked)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the known one that is most like it, or else all of them."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known) or 'none'}"


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; what can be no path, as a name too long, is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def nearest_path(path: str | Path) -> str:
    """The end of an error about a path: where it is not there, the one most like it, or as much of it as there is."""
    path = Path(path)
    found = Path(path.anchor)
    for part in path.relative_to(found).parts:
        close = [part] if exists(found / part) else difflib.get_close_matches(part, _names_in(found), n=1)
        if not close:
            return f"; the nearest that there is: {found if found.parts else 'this folder'}"
        found /= close[0]
    return "" if found == path else f"; did you mean {str(found)!r}?"


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:  # a file, or a folder that may not be read
        return []
