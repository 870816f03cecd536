"""Finished sweeps whose settings and scores come along, by name; quick to import."""

from pathlib import Path

_SHIPPED = Path(__file__).parent / "shipped"


def shipped_scores() -> list[str]:
    """Names of the sweeps whose settings and scores come with the library; `read_runs` takes them for folders."""
    return sorted(folder.name for folder in _SHIPPED.glob("*"))


def scores_folder(folder: str | Path) -> Path:
    """The folder itself, or that of the sweep which comes along under this name."""
    return _SHIPPED / folder if str(folder) in shipped_scores() else Path(folder)
