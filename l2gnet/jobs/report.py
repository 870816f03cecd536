"""A run as one page for readers: its executed notebook without the code, in one file.

The page fetches nothing and runs nothing, so it can be read anywhere and passed on; formulas stand as TeX.
"""

import re
from pathlib import Path

from l2gnet.checks import require_path
from l2gnet.errors import ConfigError
from l2gnet.files import write_text


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` to a run folder: text, tables and pictures of its notebook, all in one file.

    Raises:
        ConfigError: there is no such folder, or it holds no finished notebook.
    """
    run_dir = Path(run_dir)
    require_path(run_dir)
    finished = [path for path in run_dir.glob("*.ipynb") if not path.stem.endswith((".failed", ".running"))]
    if len(finished) != 1:
        raise ConfigError(f"{run_dir} must hold one executed notebook, found {len(finished)}; name a run folder")
    import nbformat  # now that all is checked: they take a second to import
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(exclude_input=True, exclude_output_prompt=True, embed_images=True)
    page, _ = exporter.from_notebook_node(nbformat.read(finished[0], as_version=4))
    report = run_dir / "report.html"
    write_text(report, re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL))
    return report
