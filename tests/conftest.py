"""Shape and type checks are on for the whole library during tests; what takes long starts first."""

import functools
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Tests run in parallel: threads that wait for each other's cores cost far more than they save. Kernels inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest

jaxtyping.install_import_hook("l2gnet", "typechecks.check")

LONG = {"slow", "browser", "slurm"}
TESTS = Path(__file__).parent
# Files that start a process for each test, train, paint whole data sets, or damage hundreds of files: slow as a whole.
HEAVY = ("cli/", "jobs/test_run.py", "jobs/test_sweep.py", "training/test_run_training.py", "training/test_resume.py")
HEAVY += ("training/test_accumulation.py", "training/test_ignored.py", "training/test_memory.py")
HEAVY += ("jobs/test_cluster.py", "training/test_regions.py")
HEAVY += ("data/folders/test_folder_fuzz.py", "data/formats/test_series_fuzz.py", "data/phantoms/")
HEAVY += ("data/test_end_to_end.py", "evaluation/test_comparison.py", "inspection/test_audit.py")
HEAVY += ("inspection/test_interventions.py",)
HEAVY += ("method/test_derivatives.py", "method/test_graph.py", "method/test_send_receive.py")
HEAVY += ("models/test_pretrained.py", "models/test_transunet.py", "prediction/test_prediction.py", "test_channels.py")
HEAVY += ("test_device.py", "test_fuzz.py", "test_imports.py", "test_readme.py")
HEAVY += ("widgets/test_scan_desk.py", "widgets/test_training_monitor.py")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put notebooks and files with long tests before all others: none of them shall start when the rest is done."""
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(HEAVY):
            item.add_marker("slow")
    long = {item.path for item in items if LONG & {mark.name for mark in item.iter_markers()}}
    long |= {item.path for item in items if item.path.suffix == ".ipynb"}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """Spare every training, which collects garbage, the million objects of the libraries it is made with."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a file to one worker, and so all that need the browser: they share JupyterLab and a kernel."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/browser" if nodeid.startswith("tests/browser/") else super()._split_scope(nodeid)

    return Files(config, log)


@pytest.fixture(scope="session", autouse=True)
def phantoms_once() -> Iterator[None]:
    """Most trainings of tests see the same patients, and painting those is half of their work: do it once."""
    from l2gnet.data import phantoms

    with pytest.MonkeyPatch.context() as patch:
        for name in ("make_heart", "make_abdomen"):
            patch.setattr(phantoms, name, functools.lru_cache(64)(getattr(phantoms, name)))
        yield


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Switch the checks off, to see the library's own errors for wrong shapes and types as a user does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
