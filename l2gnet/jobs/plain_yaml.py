"""YAML files of users and strangers: plain values, every name once, no references, of a bounded size."""

from pathlib import Path
from typing import Any

import yaml

from l2gnet.checks import require_path
from l2gnet.errors import ConfigError

_MAX_BYTES = 64 * 1024


def read_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """The `name: value` lines of a YAML file that is to be `what`, as in "a profile".

    Raises:
        ConfigError: the file is missing or too large, is no YAML, or has a tag of Python, a name twice, or an alias
            (a few lines of aliases unfold to gigabytes).
    """
    path = Path(path)
    require_path(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES // 1024} KiB")
        values = yaml.load(content.decode("utf-8"), Loader=_Loader)
    except (OSError, yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path}: {what} must be YAML of plain values, got: {str(error)[:500]}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        found = type(values).__name__ if not isinstance(values, dict) else ", ".join(map(repr, values))[:200]
        raise ConfigError(f"{path}: {what} must be a list of `name: value` lines, got {found}")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's safe loader without aliases, and without the second of two values for one name."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias, *{self.peek_event().anchor}; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise yaml.YAMLError(f"{', '.join(twice)} twice; remove one")
        return super().construct_mapping(node, deep)
