import pytest
from ml_collections import ConfigDict

from training.config import default


@pytest.fixture
def config():
    """Returns a maker of the config group `data`, complete, with what a test wants to set."""

    def make(name: str, *, train: str = "train", validation: str = "", test: str = "", **others) -> ConfigDict:
        config = default().data
        config.update({"name": name, "splits": {"train": train, "validation": validation, "test": test}, **others})
        return config

    return make


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Returns where the sets of `data.builders` are prepared, once a session."""
    return str(tmp_path_factory.mktemp("tfds"))
