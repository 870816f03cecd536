"""Names that a user gives to codes, kept beside the model or, for one that comes along, in the user's own folder."""

import os
from pathlib import Path

from l2gnet.errors import ConfigError
from l2gnet.files import read_json, write_json
from l2gnet.models.card import checkpoint_file, shipped_models

_LONGEST = 60


class CodeNames:
    """The names of a model's codes, in `MODEL.names.json`.

    Args:
        checkpoint: the model's file, its run folder, or the name of a model that comes along.
    """

    def __init__(self, checkpoint: str | Path):
        path = checkpoint_file(checkpoint)
        folder = _own_folder() if str(checkpoint) in shipped_models() else path.parent
        self.path = folder / f"{path.stem}.names.json"

    @property
    def all(self) -> dict[str, str]:
        """The name of each code that has one, by its number.

        Raises:
            ConfigError: the file is damaged.
        """
        if not self.path.exists():
            return {}
        try:
            names = read_json(self.path)
        except ValueError as error:
            raise ConfigError(f"{self.path}: names of codes must be JSON, got: {error}; delete or mend it") from error
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ConfigError(f"{self.path}: names of codes must be texts by number, got others; delete or mend it")
        return names

    def set(self, code: int, name: str) -> None:
        """Name a code; an empty name takes it away."""
        names = self.all
        names[str(code)] = name.strip()[:_LONGEST]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {number: given for number, given in names.items() if given})


def _own_folder() -> Path:
    """Where this user's programs keep their data (XDG)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "l2gnet"
