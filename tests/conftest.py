"""Shape and type checks are on for the whole library during tests."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)  # tests run in parallel: threads that wait for each other's cores cost far more than they save
jaxtyping.install_import_hook("l2gnet", "typechecks.check")


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Switch the checks off, to see the library's own errors for wrong shapes and types as a user does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
