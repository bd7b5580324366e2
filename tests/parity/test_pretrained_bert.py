"""Published encoders against transformers: randomly initialised models of odd sizes with each head, in both directions.
They need PyTorch and transformers (`make parity`)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from arch.layers.trunk import Block
from arch.pretrained.family import families
from inference.export import _fields
from inference.export import write as write_export
from inference.predict import load, predict
from tests.inference.test_predict_encoders import NAMES, untrained, write
from tests.parity import sgd
from training import build
from training.pretrained import published

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LENGTH, LENGTHS = 11, np.array([11, 6], np.int32)
REAL = np.arange(LENGTH)[None] < LENGTHS[:, None]
BERT = {"vocab_size": 31, "max_position_embeddings": 17, "hidden_size": 18, "num_hidden_layers": 2}
BERT |= {"num_attention_heads": 3, "intermediate_size": 23, "layer_norm_eps": 1e-3}
BERT |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ROBERTA = BERT | {"max_position_embeddings": 19, "type_vocab_size": 1}
DISTILBERT = {"vocab_size": 31, "max_position_embeddings": 17, "dim": 18, "n_layers": 2, "n_heads": 3, "hidden_dim": 23}
DISTILBERT |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0}
CLASSES = {"id2label": {0: "other", 1: "a place", 2: "a name"}}
CASES = {
    "BertModel": BERT | {"hidden_act": "gelu_new"},
    "BertForPreTraining": BERT | {"type_vocab_size": 3},
    "BertForMaskedLM": BERT | {"hidden_act": "relu"},
    "BertForSequenceClassification": BERT | CLASSES,
    "BertForTokenClassification": BERT | CLASSES,
    "BertForQuestionAnswering": BERT,
    "BertForMultipleChoice": BERT,
    "RobertaModel": ROBERTA,
    "RobertaForMaskedLM": ROBERTA,
    "RobertaForSequenceClassification": ROBERTA | CLASSES | {"type_vocab_size": 2},
    "RobertaForTokenClassification": ROBERTA | CLASSES,
    "RobertaForQuestionAnswering": ROBERTA,
    "RobertaForMultipleChoice": ROBERTA,
    "DistilBertForMaskedLM": DISTILBERT,
    "DistilBertForSequenceClassification": DISTILBERT | CLASSES | {"activation": "relu"},
    "DistilBertForTokenClassification": DISTILBERT | CLASSES,
    "DistilBertForQuestionAnswering": DISTILBERT,
    "DistilBertForMultipleChoice": DISTILBERT,
}
TRAINED = [name for name in CASES if name.endswith(("ForPreTraining", "ForMaskedLM", "ForSequenceClassification"))]
TRAINED += ["BertForQuestionAnswering", "RobertaForMultipleChoice"]


class Pair:
    """A model of transformers with random weights and biases, saved, and the same model read by this project."""

    def __init__(self, name: str, folder):
        torch.manual_seed(0)
        cls = getattr(transformers, name)
        config = cls.config_class(**CASES[name])
        config._attn_implementation = "eager"
        self.torch = cls(config).eval()
        with torch.no_grad():
            for path, parameter in self.torch.named_parameters():
                is_scale = "norm" in path.lower() and path.endswith("weight")
                parameter.normal_(float(is_scale), 0.3)  # small scales make all tokens alike
                if "roberta" in config.model_type and path.endswith("position_embeddings.weight"):
                    parameter[:2] = 0  # no token has these positions
        self.folder = folder / "theirs"
        self.torch.save_pretrained(self.folder)
        self.published = published(f"hf:{self.folder}")
        self.model = build.construct(ConfigDict(self.published.model), "arch")
        flat, self.unknown = self.published.params()
        self.params = unflatten_dict(flat, sep="/")
        tokens = np.random.default_rng(1).integers(2, 31, (2, LENGTH))
        self.tokens = np.where(REAL, tokens, config.pad_token_id).astype(np.int32)
        kinds = getattr(config, "type_vocab_size", 1)
        self.segments = np.where(REAL, np.minimum(np.arange(LENGTH) // 3, kinds - 1), 0).astype(np.int32)
        self.are_choices = name.endswith("MultipleChoice")

    @property
    def inputs(self):
        arrays = self.tokens, LENGTHS, self.segments
        return tuple(jnp.asarray(x[None] if self.are_choices else x) for x in arrays)

    def ours(self, outputs):
        """Returns the outputs in the order of transformers."""
        if isinstance(outputs, dict):
            return [outputs["masked"], outputs["follows"]]
        is_span = self.torch.__class__.__name__.endswith("QuestionAnswering")
        return [outputs[..., 0], outputs[..., 1]] if is_span else [outputs]

    def theirs(self, model=None):
        """Returns the outputs of transformers."""
        kinds = {} if "distil" in self.torch.config.model_type else {"token_type_ids": self.segments}
        arrays = {"input_ids": self.tokens, "attention_mask": REAL, **kinds}
        arrays = {name: torch.tensor(x, dtype=torch.long) for name, x in arrays.items()}
        found = (model or self.torch)(**{name: x[None] if self.are_choices else x for name, x in arrays.items()})
        names = ("logits", "prediction_logits", "seq_relationship_logits", "start_logits", "end_logits")
        outputs = [found[name] for name in names if name in found]
        return outputs or [found.pooler_output]


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    return Pair(request.param, tmp_path_factory.mktemp("hf"))


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        one, other = np.asarray(one), other.detach().numpy()
        assert one.shape == other.shape and np.abs(other).max() > 0.05
        if one.shape[:2] == REAL.shape:
            one, other = one[REAL], other[REAL]  # padding may hold anything
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_every_block_and_the_outputs_are_equal(pair):
    (blocks,) = [child for child in pair.torch.modules() if isinstance(child, torch.nn.ModuleList)]
    outputs = []
    hooks = [block.register_forward_hook(lambda module, inputs, output: outputs.append(output)) for block in blocks]
    with torch.no_grad():
        expected = pair.theirs()
    for hook in hooks:
        hook.remove()
    is_block = lambda module, method: isinstance(module, Block) and method == "__call__"  # noqa: E731
    apply = functools.partial(pair.model.apply, train=False, capture_intermediates=is_block, mutable=["intermediates"])
    found, captured = jax.jit(apply)({"params": pair.params}, *pair.inputs)
    values = flatten_dict(captured["intermediates"], sep="/")
    hidden = [values[path][0][0] for path in sorted(values) if path.endswith("__call__")]
    assert not pair.unknown and len(hidden) == len(outputs) == 2
    assert_equal(hidden, [x if isinstance(x, torch.Tensor) else x[0] for x in outputs])
    assert_equal(pair.ours(found), expected)


def loss_of(outputs, lib, cross_entropy):
    """Returns the cross-entropy with made-up labels, of all outputs at real tokens."""
    total = 0.0
    for x in outputs:
        weights = np.ones(len(x), np.float32)
        if tuple(x.shape[:2]) == REAL.shape and x.ndim == 3:
            x, weights = x.reshape(-1, x.shape[-1]), REAL.reshape(-1).astype(np.float32)
        elif tuple(x.shape) == REAL.shape:
            x = x + lib.asarray(np.where(REAL, 0, -1e9).astype(np.float32))
        labels = np.arange(1, len(x) + 1) % x.shape[-1]
        total = total + (cross_entropy(x, lib.asarray(labels)) * lib.asarray(weights)).sum() / weights.sum()
    return total


@pytest.mark.parametrize("pair", TRAINED, indirect=True)
def test_ten_steps_of_sgd_give_the_same_losses(pair):
    rate = 0.1
    expected = sgd.losses_of(
        pair.torch,
        lambda: loss_of(pair.theirs(), torch, functools.partial(torch.nn.functional.cross_entropy, reduction="none")),
        rate,
    )

    def ours(params):
        outputs = pair.ours(pair.model.apply({"params": params}, *pair.inputs, train=True))
        return loss_of(outputs, jnp, optax.softmax_cross_entropy_with_integer_labels)

    @jax.jit
    def step(params):
        loss, gradient = jax.value_and_grad(ours)(params)
        return jax.tree.map(lambda x, g: x - rate * g, params, gradient), loss

    params, losses = pair.params, []
    for _ in range(10):
        params, loss = step(params)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    assert expected[-1] < 0.97 * expected[0]


def test_transformers_loads_what_is_written(pair, tmp_path):
    family = families()[pair.published.config["model_type"]]
    config = family.write_config(_fields(pair.model))
    arrays = family.write_weights(pair.published.params()[0], pair.published.fields)
    stored = load_file(pair.folder / "model.safetensors")
    named = {name.removeprefix(family.prefix): x for name, x in arrays.items()}
    assert named.keys() == {name.removeprefix(family.prefix) for name in stored}
    assert all(np.array_equal(named[name.removeprefix(family.prefix)], x) for name, x in stored.items())
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, tmp_path / "model.safetensors")
    again, info = type(pair.torch).from_pretrained(tmp_path, attn_implementation="eager", output_loading_info=True)
    assert (
        not info["missing_keys"]
        and not info["unexpected_keys"]
        and again.config.architectures == [type(pair.torch).__name__]
    )
    with torch.no_grad():
        for found, expected in zip(pair.theirs(again.eval()), pair.theirs(), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_an_export_has_the_classes_and_the_tokenizer(kind, tmp_path):
    name = {"bert": "Bert", "distilbert": "DistilBert"}[kind]
    write(tmp_path / "theirs", kind, f"{name}ForSequenceClassification")
    config = untrained(tmp_path / "theirs", "finetune,class")
    write_export(load(config), tmp_path / "ours")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert type(model).__name__ == f"{name}ForSequenceClassification"
    assert model.config.id2label == dict(enumerate(NAMES)) and tokenizer.mask_token == "[MASK]"
    with torch.no_grad():
        found = model(**tokenizer("the cat", return_tensors="pt")).logits.softmax(-1)[0].numpy()
    (row,) = predict(config, [], ["the cat"]).rows
    np.testing.assert_allclose(list(row["probability"].values()), found, atol=1e-5)


@pytest.mark.parametrize("pair", ["BertForPreTraining"], indirect=True)
def test_the_other_gelu_is_not_equal(pair):
    other = build.construct(ConfigDict(pair.published.model | {"activation": "layers.feedforward.gelu_tanh"}), "arch")
    with torch.no_grad():
        expected = pair.theirs()
    found = jax.jit(functools.partial(other.apply, train=False))({"params": pair.params}, *pair.inputs)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_equal(pair.ours(found), expected)
