"""A run as one page for readers, in one file: what a training came to, or the executed notebook without its code.

The page fetches nothing, so it can be read anywhere and passed on.
"""

import os
import re
from html import escape
from pathlib import Path

from l2gnet.checks import require, require_path
from l2gnet.errors import ConfigError
from l2gnet.files import write_text


def write_report(*run_dirs: str | Path, data_dir: str = "", author: str = "") -> Path:
    """Write `report.html`: of one training into its folder, of several, compared, into the folder that holds them all.

    A folder may hold many runs, as that of a sweep. Of a run that trained nothing it is the text, tables and pictures
    of its notebook. With `data_dir`, the folder of the scans that a run was trained on, its page shows cases.
    `author` is named below the title; nobody is by itself.

    Raises:
        ConfigError: there is no such folder, or it holds no finished run; or `data_dir` is not what the run was trained
            on, or there is more than one run, or none that was trained.
        CheckpointError: a model is damaged.
    """
    folders = [Path(folder) for folder in run_dirs]
    require_path(*folders)
    trained = [folder for parent in folders for folder in _trainings(parent)]
    if not trained and len(folders) > 1:
        raise ConfigError(f"{', '.join(map(str, folders))} must hold trained runs with scores, found none")
    require(not data_dir or len(trained) == 1, "data_dir", "left out but for one training, which shows cases", data_dir)
    if not trained:
        return _report_notebook(folders[0], author)
    home = folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.resolve() for folder in folders]))
    from l2gnet.jobs.run_report import write_run_report  # on demand: what draws and predicts is slow to import

    return write_run_report(trained, home / "report.html", data_dir=data_dir, author=author)


def _trainings(parent: Path) -> list[Path]:
    """The runs in a folder that were trained and scored."""
    return [file.parent for file in sorted(parent.rglob("scores.csv")) if (file.parent / "model.safetensors").exists()]


def _report_notebook(run_dir: Path, author: str) -> Path:
    finished = [path for path in run_dir.glob("*.ipynb") if not path.stem.endswith(".failed")]
    if len(finished) != 1:
        raise ConfigError(f"{run_dir} must hold one executed notebook, found {len(finished)}; name a run folder")
    import nbformat  # now that all is checked: they take a second to import
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(exclude_input=True, exclude_output_prompt=True, embed_images=True)
    notebook = nbformat.read(finished[0], as_version=4)
    if author:  # below the title, which the first cell begins with
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(f"By {escape(author)}."))
    page, _ = exporter.from_notebook_node(notebook)
    report = run_dir / "report.html"
    write_text(report, re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL))
    return report
