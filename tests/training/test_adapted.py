"""Networks that start from a trained one and train in part: distillation, LoRA, frozen layers, a new head."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from arch.lora import LoRA
from arch.mlp import MLP
from configs import text
from core.errors import UserError
from inference.predict import complete, load
from tests.training import recipes, small
from training import build
from training.checkpoint import read_best
from training.main import train
from training.run import build_run

pytestmark = pytest.mark.slow
GPT = {"name": "gpt.GPT", "variant": "test", "depth": 4, "context": 24}
DISTILLED = {
    "name": "distilled.Distilled",
    "student": "gpt.GPT(context=24, depth=1, width=8, heads=2)",
    "teacher": "gpt.GPT(context=24, depth=4, width=12, heads=3, windows=(None, 4))",
}
LORA = GPT | {"adapter": "lora.LoRA(rank=2)"}


def language_model(model: dict, start="", task="sequence.TokenClassification", frozen=()) -> ConfigDict:
    """Returns a config of seconds with a GPT on characters."""
    config = recipes.small(text, "shakespeare")
    config.model, config.init_from, config.task.name = ConfigDict(model), str(start), task
    config.data.order, config.log.writers = "shuffled", ()
    config.optimizer.update(frozen=frozen, weight_decay=0.1, decay_mask=(".*",))
    return config


def classifier(model: dict, start="", task="classification.Classification") -> ConfigDict:
    """Returns a config of seconds with batch statistics on digits."""
    config = small.get_config()
    config.model, config.init_from, config.task.name = ConfigDict(model), str(start), task
    config.train.update(steps=2, ema_decay=0.0)
    config.checkpoint.update(every=2.0, best="")
    config.eval.every, config.log.writers, config.augment.ops = 0.0, (), ("normalise()",)
    config.optimizer.update(weight_decay=0.1, decay_mask=(".*",), warmup_steps=0.0)
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory, recipes_dir):
    """Returns a trainer: (config) -> (workdir, results), once per config."""
    done = {}

    def get(config):
        key = config.to_json_best_effort()
        if key not in done:
            workdir = tmp_path_factory.mktemp("runs") / "run"
            done[key] = workdir, train(config, str(workdir), recipes_dir).results
        return done[key]

    return get


@pytest.fixture(scope="module")
def trained_gpt(runs):
    return runs(language_model(GPT))[0]


def saved(workdir) -> dict[str, np.ndarray]:
    """Returns path -> array of a run's last state, such as "params/head/kernel"."""
    _, state, _ = read_best(workdir, print)
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in leaves}


def started(config, recipes_dir, said=lambda _: None):
    """Returns a run and its flat parameters before training."""
    run = build_run(config, recipes_dir)
    return run, flatten_dict(run.create_states(said)[0].params, sep="/")


def logits(run, params, tokens):
    variables = {"params": jax.tree.map(np.asarray, params)}
    return jax.jit(lambda v: run.model.apply(v, tokens, train=False))(variables)


def test_a_scanned_trunk_starts_from_an_unrolled_one(trained_gpt, recipes_dir):
    said = []
    run = build_run(language_model(GPT | {"scan": True}, trained_gpt), recipes_dir)
    params = run.create_states(said.append)[0].params
    assert params["trunk"]["blocks"]["block2"]["attention"]["layer"]["query"]["kernel"].shape == (2, 12, 12)
    assert said[0].endswith(", 0 not")
    tokens = jnp.arange(10)[None] % 4
    plain = load(str(trained_gpt))
    np.testing.assert_allclose(logits(run, params, tokens), logits(plain, plain.variables["params"], tokens), atol=1e-5)


def test_another_context_keeps_the_common_positions(trained_gpt, recipes_dir):
    table = saved(trained_gpt)["params/position_embedding/embedding"]
    for context in (20, 30):
        said = []
        _, params = started(language_model(GPT | {"context": context}, trained_gpt), recipes_dir, said.append)
        found = params["position_embedding/embedding"]
        assert found.shape == (context, 12) and f"adapted from the shape (24, 12) to ({context}, 12)" in said[0]
        np.testing.assert_array_equal(found[:20], table[:20])
        assert not np.any(np.all(found[20:][:, None] == 0, -1))


def test_the_first_layers_are_frozen_by_one_line(runs, trained_gpt, capsys):
    workdir, _ = runs(language_model(GPT, trained_gpt, frozen=("trunk/block[1-3]/.*",)))
    before, after = saved(trained_gpt), saved(workdir)
    for path in (path for path in before if path.startswith("params/")):
        same = np.array_equal(before[path], after[path])
        assert same == bool(re.match(r"params/trunk/block[1-3]/", path)) or path.endswith("key/bias"), path
    frozen = sum(x.size for path, x in before.items() if re.match(r"params/trunk/block[1-3]/", path))
    assert f"{frozen:,} of " in capsys.readouterr().out


def test_lora_trains_its_factors_alone(runs, trained_gpt, capsys):
    """4 blocks with a query and a value kernel of 12 x 12, at rank 2."""
    workdir, _ = runs(language_model(LORA, trained_gpt))
    before, after = saved(trained_gpt), saved(workdir)
    total = sum(x.size for path, x in after.items() if path.startswith("params/"))
    trained = 4 * 2 * (12 * 2 + 2 * 12)
    assert f"{total - trained:,} of {total:,} parameters are frozen" in capsys.readouterr().out
    for path in (path for path in before if path.startswith("params/")):
        np.testing.assert_array_equal(before[path], after[path], err_msg=path)
    assert all(np.any(x) for path, x in after.items() if path.startswith("params/lora_b/"))
    moments = [x for path, x in after.items() if path.startswith("opt_state/") and "/mu/" in path]
    assert sum(x.size for x in moments) == trained


def test_an_adapted_run_is_used_and_continued_with_merged_kernels(runs, trained_gpt, recipes_dir):
    workdir, _ = runs(language_model(LORA, trained_gpt))
    one = load(str(workdir))
    assert type(one.model).__name__ == "GPT" and not isinstance(one.model, LoRA)
    merged = flatten_dict(one.variables["params"], sep="/")
    path = "trunk/block1/attention/layer/query/kernel"
    assert not np.array_equal(merged[path], saved(trained_gpt)[f"params/{path}"])
    assert len("".join(complete(str(workdir), "a", 5))) == 6
    for model in (GPT, GPT | {"scan": True}):
        _, params = started(language_model(model, workdir), recipes_dir)
        found = params[path if model is GPT else path.replace("block1", "blocks/block1")]
        np.testing.assert_array_equal(found if model is GPT else found[0], merged[path])


def test_a_language_model_is_distilled(runs, trained_gpt, recipes_dir):
    workdir, results = runs(language_model(DISTILLED, trained_gpt, "distillation.TokenDistillation"))
    check_distilled(saved(trained_gpt), saved(workdir))
    assert {"perplexity", "accuracy", "teacher_agreement", "label", "teacher"} <= results["test"].keys()
    means = results["test"]
    assert means["loss"] == pytest.approx(0.5 * means["label"] + means["teacher"], rel=1e-5)
    assert load(str(workdir)).model.width == 8 and len("".join(complete(str(workdir), "a", 5))) == 6
    student = GPT | {"depth": 1, "width": 8, "heads": 2, "windows": (None,)}
    said = []
    _, params = started(language_model(student, workdir), recipes_dir, said.append)
    np.testing.assert_array_equal(params["embedding/embedding"], saved(workdir)["params/student/embedding/embedding"])
    assert said[0].endswith(", 0 not")


def test_a_classifier_is_distilled(runs):
    """With batch statistics: those of the teacher stay, too."""
    norm = {"norm": "layers.norm.batch_norm", "dropout": 0.1}
    teacher, _ = runs(classifier({"name": "mlp.MLP", "widths": (16,)} | norm))
    networks = {
        "student": "mlp.MLP(widths=(8,), norm=layers.norm.batch_norm)",
        "teacher": "mlp.MLP(widths=(16,), norm=layers.norm.batch_norm)",
    }
    config = classifier({"name": "distilled.Distilled", **networks}, teacher, "distillation.Distillation")
    workdir, results = runs(config)
    check_distilled(saved(teacher), saved(workdir))
    assert {"accuracy", "macro_f1", "teacher_agreement"} <= results["test"].keys()
    assert load(str(workdir)).model.widths == (8,)


def check_distilled(before: dict, after: dict) -> None:
    """The teacher is bit for bit what it was, the optimizer keeps nothing for it, and the student has trained."""
    for path, value in before.items():
        collection, _, rest = path.partition("/")
        if collection in ("params", "mutable"):
            top, inner = ("params/", rest) if collection == "params" else (f"mutable/{rest.split('/')[0]}/", "")
            inner = inner or rest.partition("/")[2]
            assert value.tobytes() == after[f"{top}teacher/{inner}"].tobytes(), path
    moments = [path for path in after if path.startswith("opt_state/") and "/mu/" in path]
    assert any("/student/" in path for path in moments)
    assert not any("/teacher/" in path for path in moments)


def test_a_new_head_trains_on_a_frozen_network(runs, recipes_dir, tmp_path):
    """Digits below 5: other classes, so that the head is new; alone, or with LoRA."""
    start, _ = runs(classifier({"name": "mlp.MLP", "widths": (16,)}))
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 16, (64, 8, 8, 1), np.uint8), random.integers(0, 5, 64)
    np.savez(tmp_path / "few.npz", image=images, label=labels)
    for adapter in ("", "lora.LoRA(rank=2, kernels='Dense_.*kernel', trained='head/.*')"):
        config = classifier({"name": "mlp.MLP", "widths": (16,)} | ({"adapter": adapter} if adapter else {}), start)
        config.data.name = f"npz:{tmp_path / 'few.npz'}"
        config.data.splits.update(train="train[:75%]", validation="", test="train[75%:]")
        config.optimizer.frozen = () if adapter else ("(?!head).*",)
        workdir, _ = runs(config)
        before, after = saved(start), saved(workdir)
        assert after["params/head/kernel"].shape == (16, 5)
        for path in ("params/Dense_0/kernel", "params/Dense_0/bias"):
            np.testing.assert_array_equal(before[path], after[path])
        _, initial = started(config, recipes_dir)
        assert not np.array_equal(initial["head/kernel"], after["params/head/kernel"])
    config.model.adapter = "lora.LoRA(kernels='Dense_.*kernel')"
    with pytest.raises(UserError, match=r"head/.*: the head is new, the classes differ; it never trains"):
        started(config, recipes_dir)


def test_slips(recipes_dir, tmp_path):
    def refused(model, words, start="somewhere"):
        with pytest.raises(UserError, match=words) as refusal:
            build_run(classifier(model, start), recipes_dir)
        assert "\n" not in str(refusal.value)

    mlp = {"name": "mlp.MLP"}
    refused(mlp | {"adapter": "lora.LoRA(kernels='Dense_0/kernel')"}, "init_from is empty: LoRA needs", start="")
    refused(mlp | {"adapter": "lora.LoRA()"}, "LoRA.kernels .* matches no kernel")
    refused(mlp | {"adapter": "lora.Lora()"}, "config.model.adapter 'lora.Lora' .*'lora.LoRA'")
    refused(mlp | {"adapter": "lora.LoRA(ranks=2)"}, "config.model.adapter .*ranks")
    refused(mlp | {"adapter": "mlp.MLP()"}, "config.model.adapter 'mlp.MLP.*' is not an adapter")
    refused({"name": "distilled.Distilled", "student": "mlp.MLP()"}, "config.model.*teacher")


def test_an_adapter_wraps_the_network_of_any_recipe():
    group = ConfigDict({"name": "mlp.MLP", "widths": (4,), "adapter": "lora.LoRA(rank=3, alpha=6)"})
    assert isinstance(build.construct(group, "arch"), MLP)
    assert build.is_wrapper({"name": "distilled.Distilled"}) and not build.is_wrapper({"name": "mlp.MLP"})
