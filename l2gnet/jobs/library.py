"""Notebooks, profiles and sweeps by name: those of the folder here come before those that the library brings.

A folder of notebooks has profiles in its `profiles/` and sweeps in its `jobs/`. Here may be one, or hold one named
`notebooks`.
"""

from pathlib import Path

from l2gnet.checks import nearest
from l2gnet.errors import ConfigError
from l2gnet.files import atomic_path

PAGES = (Path("02_codebook_usage"), Path("03_transport_plans"), Path("04_predictions"))  # the viewers
_INSTALLED = Path(__file__).parents[1] / "notebooks"
_BROUGHT = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "notebooks"  # of a checkout
_FOLDERS = (Path(), Path("notebooks"), _BROUGHT)
_NOTEBOOK, _PROFILE, _SWEEP = "*.ipynb", "profiles/*.yaml", "jobs/*.yaml"


def find_notebook(name: str | Path, folder: Path = Path()) -> Path:
    """The notebook of this name, such as `01_train`; a path stays one, as meant from `folder`.

    Raises:
        ConfigError: the name is unknown.
    """
    return _find("notebook", name, _NOTEBOOK, folder, from_folder=folder)


def find_profile(name: str | Path, notebook: Path) -> Path:
    """The profile of this name for a notebook, beside which it is looked for first; a path stays one.

    Raises:
        ConfigError: the name is unknown.
    """
    return _find("profile", name, _PROFILE, notebook.parent)


def find_sweep(name: str | Path) -> Path:
    """The sweep file of this name, such as `compare-acdc`; a path stays one.

    Raises:
        ConfigError: the name is unknown.
    """
    return _find("sweep", name, _SWEEP, Path())


def notebooks_here() -> Path | None:
    """The folder with notebooks of the library, changed or not: this one or `notebooks`; None if there is none yet."""
    names = [file.name for file in _BROUGHT.glob(_NOTEBOOK)]
    return next((folder for folder in _FOLDERS[:2] if any((folder / name).is_file() for name in names)), None)


def copy_notebooks(folder: str | Path) -> int:
    """Copy notebooks, profiles and jobs to a folder; how many files there are. What is there already, unchanged, stays.

    Raises:
        ConfigError: a file there would be changed, or the folder cannot be one. Nothing was written.
    """
    folder = Path(folder)
    files = {folder / path.relative_to(_BROUGHT): path.read_bytes() for path in brought()}
    for part in {parent for path in files for parent in path.parents}:
        if part.exists() and not part.is_dir():
            raise ConfigError(f"{folder}: notebooks are copied to a folder, but {part} is a file; name another folder")
    others = [path for path, content in files.items() if path.exists() and not _holds(path, content)]
    if others:
        named = ", ".join(str(path.relative_to(folder)) for path in others[:3]) + (", ..." if others[3:] else "")
        raise ConfigError(f"{folder}: your files must stay, but {named} would be changed; name another folder")
    for path, content in files.items():
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
    return len(files)


def brought() -> list[Path]:
    """The files that the library brings: notebooks, profiles and jobs."""
    return sorted(path for form in (_NOTEBOOK, _PROFILE, "jobs/*") for path in _BROUGHT.glob(form) if path.is_file())


def is_file(path: Path) -> bool:
    """Whether a file of this name is there, however long the name may be."""
    try:
        return path.is_file()
    except OSError:
        return False


def _find(what: str, name: str | Path, form: str, first: Path, from_folder: Path = Path()) -> Path:
    """What a name stands for: a file of this form in the first folder, or else in the one here or the library's."""
    path = Path(name)
    if path.suffix or len(path.parts) != 1 or is_file(from_folder / path):
        return from_folder / path
    folders = sorted(dict.fromkeys((first, *_FOLDERS)), key=lambda folder: folder == _BROUGHT)  # the library's last
    for folder in folders:
        if is_file(found := folder / form.replace("*", path.name)):
            return found
    known = sorted({file.stem for folder in folders for file in folder.glob(form)})
    raise ConfigError(f"there is no {what} {path.name[:100]!r}{nearest(path.name, known)}")


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
