"""What several tests of training share: small data, and small runs of recipes on it, each trained once a session."""

import pytest

from tests.data import fake
from tests.training import recipes


@pytest.fixture(scope="session")
def recipes_dir(tmp_path_factory):
    """Returns where made-up data for the recipes is prepared."""
    folder = str(tmp_path_factory.mktemp("made_up"))
    fake.prepare_recipes(folder, dict.fromkeys(recipes.get(*one).data.name for one in recipes.ALL))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, recipes_dir):
    """Returns a trainer: (recipe, its argument) -> `recipes.Trained`."""
    runs = {}

    def get(recipe, name):
        if (recipe, name) not in runs:
            workdir = tmp_path_factory.mktemp("runs") / (name or "run")
            with pytest.MonkeyPatch.context() as patch:
                runs[recipe, name] = recipes.train_small(recipes.small(recipe, name), workdir, recipes_dir, patch)
        return runs[recipe, name]

    return get
