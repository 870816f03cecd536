"""Shape and type checks are on for the whole library during tests."""

import os
from collections.abc import Iterator

# Tests run in parallel: threads that wait for each other's cores cost far more than they save. Kernels inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest

jaxtyping.install_import_hook("l2gnet", "typechecks.check")


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Switch the checks off, to see the library's own errors for wrong shapes and types as a user does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
