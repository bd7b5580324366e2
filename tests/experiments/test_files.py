"""Every experiment of the folder, found by itself: it declares what there is, and its cells can be run."""

import functools

import jax
import jax.numpy as jnp
import pytest

from data.builders import BUILDERS
from data.builders.raw import FromFiles
from experiments.engine.experiment import Cell, Experiment, cell_config, load
from experiments.table import recipes
from tests.data.fake import few_examples
from training import build, optimizer
from training.parallel import Parallel
from training.run import build_run

SCALES = [(path, scale) for path in recipes() for scale in load(str(path))[0].scales]
NEED_FILES = {name for name, builder in BUILDERS.items() if issubclass(builder, FromFiles)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where procedural sets are prepared with few examples."""
    with pytest.MonkeyPatch.context() as patch:
        few_examples(patch)
        yield str(tmp_path_factory.mktemp("tfds"))


def test_there_are_experiments():
    assert {"init_depth", "bahdanau_attention"} <= {path.stem for path in recipes()}
    assert not {"experiment", "run", "table"} & {path.stem for path in recipes()}


@pytest.mark.parametrize(("path", "scale"), SCALES, ids=lambda value: getattr(value, "stem", value))
@pytest.mark.slow
def test_an_experiment(path, scale, data_dir, monkeypatch):
    monkeypatch.setattr(Parallel, "check_batch_size", lambda *_: None)  # a cell has one device, tests have eight
    whole, _ = load(f"{path}:{scale}")
    assert isinstance(whole, Experiment) and whole.paper.title and whole.scale == scale
    assert len(whole.seeds) >= 3 and (scale != "cpu" or 0 < whole.minutes <= 10)
    splits = {name for name, split in whole.base.data.splits.items() if split}
    assert whole.metric.lstrip("-").partition("/")[0] in splits and (not whole.tune or "validation" in splits)
    runs = {}
    for label in whole.rows:
        config = cell_config(whole, Cell(label))
        name = config.data.name.partition("/")[0]
        if scale == "cpu" and name in BUILDERS and name not in NEED_FILES:
            alike = str([config.model.name.partition("(")[0], config.task, config.data, config.augment])
            if alike not in runs:
                runs[alike] = build_run(config, data_dir)
                assert runs[alike].steps > 0
            else:  # the network differs, or how it is trained
                run = runs[alike]
                model = build.build_model(config, run.task, run.info)
                inputs = [jnp.zeros(x.shape, x.dtype) for x in run.inputs]
                init = functools.partial(model.init, train=False)
                params = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
                assert optimizer.create(config.optimizer, run.steps, params, build.frozen(model))
        else:
            build.construct(config.model, "arch")
            build.construct(config.task, "tasks")
