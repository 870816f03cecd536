import pytest
from commands import save_model


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run folder with the model alone; not to be written to."""
    return save_model(tmp_path_factory.mktemp("runs") / "first" / "model.safetensors").parent
