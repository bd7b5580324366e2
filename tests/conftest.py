"""Eight fake devices for the whole suite, annotations checked, and compiled programs shared between tests: all of this
must be set before jax and the packages are imported.
"""

import atexit
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

FLAGS = "--xla_force_host_platform_device_count=8 --xla_cpu_parallel_codegen_split_count=1"
# Tests compile much and compute little: XLA's older emitters of loops compile in half the time of the newer ones.
if version("jaxlib").startswith("0.10."):  # later ones have the newer emitters alone
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
os.environ.setdefault("NPROC", "16")  # fewer threads than fake devices can deadlock in jax 0.10
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as commands set it
# Many tests compile the same program: one process or test finds what another one compiled.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "onestep-tests-xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Without LLVM's optimisations compilation takes a fifth of the time. XLA's own passes run all the same. The fixture
# `compile_whole` is for tests that compute much.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The cache of data is made anew; fonts and bytecode stay in the user's own.
USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
# Where writing bytecode is off, each of the many processes would compile all libraries and rewrite all assertions.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix = str(USER_CACHE / "onestep-tests-bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
os.environ.setdefault("MPLCONFIGDIR", str(USER_CACHE / "matplotlib"))
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="onestep-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def pytest_collection_modifyitems(items):
    """Orders the files from the last to the first: those of whole runs begin early, and no worker waits at the end."""
    items.sort(key=lambda item: item.path, reverse=True)


@pytest.fixture
def compile_whole():
    """Compiles with all optimisations, as users do."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def recipes_dir(tmp_path_factory):
    """Returns where made-up data for the recipes is prepared."""
    from tests.data import fake
    from tests.training import recipes

    folder = str(tmp_path_factory.mktemp("made_up"))
    fake.prepare_recipes(folder, dict.fromkeys(config.data.name for config in recipes.CONFIG.values()))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, recipes_dir):
    """Returns a trainer: (recipe, its argument) -> `recipes.Trained`."""
    from tests.training import recipes

    runs = {}

    def get(recipe, name):
        if (recipe, name) not in runs:
            workdir = tmp_path_factory.mktemp("runs") / (name or "run")
            with pytest.MonkeyPatch.context() as patch:
                runs[recipe, name] = recipes.train_small(recipes.small(recipe, name), workdir, recipes_dir, patch)
        return runs[recipe, name]

    return get
