import nbformat
import pytest

from l2gnet.errors import ConfigError
from l2gnet.jobs.report import write_report

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_a_report_has_text_tables_and_pictures_and_no_code(tmp_path):
    outputs = [
        nbformat.v4.new_output("stream", text="Dice 0.9"),
        nbformat.v4.new_output("display_data", {"image/png": PIXEL}),
        nbformat.v4.new_output("display_data", {"text/html": "<b>row</b><script>fetch('//x')</script>"}),
    ]
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("secret = 1", outputs=outputs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "work.ipynb")
    with pytest.raises(ConfigError, match="data_dir must be left out but for one training, which shows cases, got 'x'"):
        write_report(tmp_path, data_dir="x")
    page = write_report(tmp_path, author="<Ada>").read_text()
    assert "<p>By &lt;Ada&gt;.</p>" in page
    assert all(part in page for part in ("Title", "Dice 0.9", f"data:image/png;base64,{PIXEL}", "<b>row</b>"))
    assert "secret" not in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_a_folder_without_a_finished_notebook_is_refused(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "work.failed.ipynb")
    with pytest.raises(ConfigError, match="must hold one executed notebook, found 0"):
        write_report(tmp_path)
