"""init_from: what matches is loaded, the rest is reported, the head is new where the classes are."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from tokenizers import Tokenizer

from arch.mlp import MLP
from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from inference.predict import load
from tests.tasks.words import tokenizer
from tests.training import small
from training import transfer
from training.checkpoint import read_arrays, steps_in
from training.display import Display
from training.loop import Trainer
from training.main import final_state, train
from training.run import build_run
from training.state import State
from training.transfer import find_checkpoint, init_from
from training.workdir import Workdir


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def short():
    config = small.get_config()
    config.train.steps, config.eval.every, config.checkpoint.every = 24, 12, 12
    return config


@pytest.fixture(scope="module")
def source(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("runs") / "source"
    train(short(), str(workdir), data_dir, "")
    return workdir


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.slow
def test_a_run_starts_from_another(source, data_dir, tmp_path):
    config = short()
    config.init_from, config.optimizer.frozen = str(source), ("Dense_0/.*",)
    run = build_run(config, data_dir)
    before = run.create_state()
    after, said = init_from(str(source), before, run.info, run.model)
    assert not equal(before.params["Dense_0"], after.params["Dense_0"])
    assert not equal(before.params["head"], after.params["head"])  # the same data set: the same classes
    assert equal(after.ema["params"], after.params) and "0 not" in said[0]

    one = Trainer(run, [Workdir(str(tmp_path / "run"))], tmp_path / "run", Display(quiet=True))
    trained = run.parallel.take(one.train())
    one.close()
    assert equal(trained.params["Dense_0"], after.params["Dense_0"])
    assert not equal(trained.params["Dense_1"], after.params["Dense_1"])


def with_classes(info, classes):
    return dataclasses.replace(
        info, keys=info.keys | {"label": dataclasses.replace(info.keys["label"], classes=classes)}
    )


@pytest.mark.slow
@pytest.mark.slow
def test_other_classes_and_other_widths(source, data_dir):
    config = short()
    config.model.widths = (32, 16)
    run = build_run(config, data_dir)
    info = with_classes(run.info, tuple("abcdefghij"))
    before = run.create_state()
    after, said = init_from(str(source), before, info, run.model)
    assert not equal(before.params["Dense_0"], after.params["Dense_0"])
    assert equal(before.params["Dense_1"], after.params["Dense_1"]) and equal(
        before.params["head"], after.params["head"]
    )
    text = "\n".join(said)
    assert "Dense_1/kernel: shape (32, 32) there, (32, 16) here" in text and "head/kernel: the head is new" in text


@pytest.mark.slow
def test_a_backbone_starts_from_a_classifier(source, data_dir):
    """A network of two parts takes the arrays of a trained one for the part that has its names."""
    run = build_run(short(), data_dir)
    trained = read_arrays(source / "checkpoints" / str(steps_in(source / "checkpoints")[-1]))[0]["params"]
    fresh = run.create_state().params
    params = {"decoder": {"head": jax.tree.map(jnp.copy, fresh["head"])}, "image_network": fresh}
    mutable = {name: {"image_network": tree} for name, tree in run.create_state().mutable.items()}
    state = run.create_state().replace(params=params, mutable=mutable, ema=None)
    after, said = init_from(str(source), state, run.info, run.model)
    assert equal(after.params["image_network"]["Dense_0"], trained["Dense_0"])
    assert not equal(fresh["Dense_0"], trained["Dense_0"])
    assert equal(after.params["decoder"], params["decoder"]), "the other part keeps its values"
    assert said[0].endswith("arrays loaded, 0 not")


def test_another_vocabulary_of_the_same_size():
    state = State(0, {"embedding": {"embedding": jnp.zeros((5, 2))}, "head": {"kernel": jnp.zeros((2, 5))},
                      "cell": {"kernel": jnp.zeros((2, 2))}}, {}, (), None, jax.random.key(0))  # fmt: skip
    saved = {"params": jax.tree.map(lambda x: np.asarray(x) + 1, state.params), "mutable": {}}

    def info(words, key="tokens"):
        return Info("texts", {}, {key: Key((7,), "int32", "tokens", vocabulary=Vocabulary(5, tokenizer=words))})

    one, another = (tokenizer({word: index for index, word in enumerate(words)}) for words in ("abcde", "bacde"))
    marked = Tokenizer.from_str(one)
    marked.enable_truncation(3)
    for other, new in ((marked.to_str(), []), (another, ["embedding/embedding", "head/kernel"])):
        meta = {"info": info(other, "text").to_json(), "config": {"model": {"name": "mlp.MLP"}}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transfer, "find_checkpoint", lambda *_, meta=meta: ("there", saved, meta))
            after, said = init_from("there", state, info(one), MLP())
        assert said[1:] == [f"  {name}: new, the vocabularies differ" for name in new]
        loaded = flatten_dict(after.params, sep="/")
        assert {name for name, x in loaded.items() if not x.any()} == set(new)


@pytest.mark.slow
def test_a_damaged_best_checkpoint_is_replaced_by_the_newest(source, data_dir, tmp_path, capsys):
    workdir = shutil.copytree(source, tmp_path / "damaged")
    (best,) = steps_in(workdir / "best")
    (workdir / "best" / str(best) / "meta" / "metadata").write_text("{")
    newest, lines = workdir / "checkpoints" / "24", []
    folder, state, _ = find_checkpoint(str(workdir), lines.append)
    assert folder == newest and len(lines) == 1 and f"best/{best}" in lines[0] and str(newest) in lines[0]
    assert equal(state["params"], read_arrays(source / "checkpoints" / "24")[0]["params"])
    run = build_run(short(), data_dir)
    init_from_said = init_from(str(workdir), run.create_state(), run.info, run.model)[1]
    assert init_from_said[0] == lines[0] and "arrays loaded" in init_from_said[1]
    assert equal(load(str(workdir)).variables, state["ema"])
    assert capsys.readouterr().err == lines[0] + "\n"
    display = Display(quiet=True)
    restored, step, label = final_state(run, workdir, display)
    assert (step, label) == (24, "checkpoints/24") and equal(restored.params, state["params"])


@pytest.mark.slow
@pytest.mark.slow
def test_what_is_no_checkpoint(source, tmp_path, data_dir):
    with pytest.raises(UserError, match="init_from"):
        find_checkpoint(str(tmp_path), print)
    config = short()
    config.model.name, config.model.depth = "resnet.CifarResNet", 8
    del config.model["widths"], config.model["dropout"]
    run = build_run(config, data_dir)
    info = with_classes(run.info, ("x",))
    with pytest.raises(UserError, match="no parameter"):
        init_from(str(source), run.create_state(), info, run.model)


def test_statistics_of_the_start_are_taken_where_an_op_asks(monkeypatch):
    def info(mean):
        statistics = {"mean": [mean], "std": [1.0]}
        keys = {"image": Key((2, 2, 1), "uint8", "image", statistics=statistics)}
        return Info("made up", {}, keys | {"target": Key((), "float32", "target", statistics={"mean": mean})})

    starts = {"a": info(0.25), "b": info(0.75)}
    found = lambda path, _: (path, {}, {"info": starts[path].to_json()})  # noqa: E731
    monkeypatch.setattr(transfer, "find_checkpoint", found)

    def configs(op, *paths):
        return [ConfigDict({"augment": {"ops": ("flip()", op)}, "init_from": path}) for path in paths]

    ours = info(0.5)
    taken = transfer.with_start_statistics(ours, configs("normalise(start=True)", "a", "a"))
    assert taken.keys["image"] == starts["a"].keys["image"] and taken.keys["target"] == ours.keys["target"]
    assert transfer.with_start_statistics(ours, configs("normalise()", "a")) is ours
    for paths, words in ((("a", "b"), "differ in their statistics"), (("",), "init_from, which is empty")):
        with pytest.raises(UserError, match=rf"normalise.*{words}"):
            transfer.with_start_statistics(ours, configs("normalise(start=True)", *paths))
