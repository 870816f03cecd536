import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm
import yaml
from test_run import write_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not slurm.available(), reason="needs root, and Debian's slurm-wlm and munge"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with slurm.OneNode(tmp_path_factory.mktemp("slurm")) as node:
        yield node


def test_a_sweep_runs_on_slurm(node, tmp_path):
    parameters = 'count: int = 0  # of the run\nrun_dir: str = ""  # where results go'
    body = 'import os\nfrom pathlib import Path\n(Path(run_dir) / "job.txt").write_text(os.environ["SLURM_JOB_ID"])'
    write_notebook(tmp_path, parameters, body)
    options = {"memory": "1GB", "interface": "lo", "log_directory": str(tmp_path / "logs")}
    workers = {"kind": "slurm", "count": 2, "options": options}
    (tmp_path / "try.yaml").write_text(
        yaml.safe_dump({"notebook": "work.ipynb", "grid": {"count": [1, 2]}, "workers": workers})
    )
    command = [sys.executable, "-m", "l2gnet", "sweep", tmp_path / "try.yaml", "--runs-dir", tmp_path / "runs"]
    result = subprocess.run(command, env=node.environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 runs: 2 finished" in result.stdout
    jobs = [path.read_text() for path in (tmp_path / "runs" / "try").glob("*/job.txt")]
    assert len(jobs) == 2
    assert all(job.isdigit() for job in jobs)
    deadline = time.monotonic() + 60
    while node.run("squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert node.run("squeue", "--noheader") == ""  # the workers' jobs have ended with the sweep


def test_the_batch_example_is_a_job_that_reaches_the_notebook(node, tmp_path):
    (tmp_path / "notebooks").symlink_to(NOTEBOOKS)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "l2gnet").write_text(f'#!/bin/sh\nexec {sys.executable} -m l2gnet "$@"\n')
    (tmp_path / ".venv" / "bin" / "l2gnet").chmod(0o755)
    script = ("--gres=none", "notebooks/jobs/train.sbatch", "no/such/folder")  # this node has no GPU to ask for
    told = node.run("sbatch", "--wait", *script, cwd=tmp_path, timeout=120)
    assert told.startswith("Submitted batch job")
    (output,) = tmp_path.glob("slurm-*.out")
    assert "data_dir must be the folder of the acdc data, got 'no/such/folder'" in output.read_text()
