"""Captioners of a ViT and GPT-2 against transformers: randomly initialised models of odd sizes, in both directions.
They need PyTorch and transformers (`make parity`)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from arch.layers.trunk import Block
from arch.pretrained.family import families
from inference.export import _fields, write
from inference.predict import load
from tests.parity import sgd
from tests.parity.torchvision_models import torch
from training.decoding import greedy
from training.overrides import override, recipe

transformers = pytest.importorskip("transformers")

VIT = {"num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 7, "image_size": 24, "patch_size": 8}
GPT = {"vocab_size": 31, "n_positions": 17, "n_embd": 15, "n_layer": 3, "n_head": 3}
GPT |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}
CASES = {
    "projected": (VIT | {"hidden_size": 12}, GPT),
    "of one width, with another head and activation": (
        VIT | {"hidden_size": 15, "layer_norm_eps": 1e-3},
        GPT | {"tie_word_embeddings": False, "activation_function": "gelu", "layer_norm_epsilon": 1e-4, "n_inner": 22},
    ),
}


class Pair:
    """A captioner of transformers with random weights and biases, saved, and the same model read by this project."""

    def __init__(self, name, folder):
        vit, gpt = CASES[name]
        torch.manual_seed(0)
        parts = transformers.ViTConfig(**vit), transformers.GPT2Config(**gpt)
        config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(*parts)
        config.decoder_start_token_id, config.pad_token_id = 1, 0
        config._attn_implementation = "eager"
        self.torch, self.folder = transformers.VisionEncoderDecoderModel(config).eval(), folder / "theirs"
        with torch.no_grad():
            for parameter in self.torch.parameters():
                parameter.normal_(0, 0.3)
        self.torch.save_pretrained(self.folder)
        words = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *(f"w{i}" for i in range(27))])}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(self.folder / "tokenizer.json"))
        rng = np.random.default_rng(1)
        self.images = rng.normal(size=(2, 24, 24, 3)).astype(np.float32)
        self.tokens, self.labels = rng.integers(1, 28, (2, 2, 11)).astype(np.int32)
        self.run = self.load(self.folder)

    def load(self, folder):
        """Returns a folder as the recipe's user predicts with it."""
        changes = {"init_from": f"hf:{folder}", "data.preprocess": ("tokenize('text', start(words(size=9)))",)}
        return load(override(recipe("configs/captions.py:csv"), changes)[0])

    @property
    def pixels(self):
        return torch.tensor(self.images).permute(0, 3, 1, 2)

    def theirs(self):
        """Returns the logits of transformers."""
        tokens = torch.tensor(self.tokens, dtype=torch.long)
        return self.torch(pixel_values=self.pixels, decoder_input_ids=tokens).logits


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    return Pair(request.param, tmp_path_factory.mktemp("hf"))


def test_every_block_and_the_logits_are_equal(pair):
    outputs = []
    blocks = [*pair.torch.encoder.layers, *pair.torch.decoder.transformer.h]
    hooks = [block.register_forward_hook(lambda _, inputs, output: outputs.append(output)) for block in blocks]
    with torch.no_grad():
        expected = pair.theirs().numpy()
    for hook in hooks:
        hook.remove()
    is_block = lambda module, method: isinstance(module, Block) and method == "__call__"  # noqa: E731
    apply = functools.partial(
        pair.run.model.apply, train=False, capture_intermediates=is_block, mutable=["intermediates"]
    )
    logits, captured = jax.jit(apply)(pair.run.variables, jnp.asarray(pair.images), jnp.asarray(pair.tokens))
    found = flatten_dict(captured["intermediates"], sep="/")
    found = {path: x for path, x in found.items() if path.endswith("__call__")}  # without attention weights
    order = sorted(found, key=lambda path: ("decoder" in path, path))
    assert len(order) == len(outputs) == 5
    for path, theirs in zip(order, outputs, strict=True):
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs[0]
        np.testing.assert_allclose(found[path][0][0], theirs, atol=1e-4, err_msg=path)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5


def test_ten_steps_of_sgd_give_the_same_losses(pair):
    rate, labels = 0.1, torch.tensor(pair.labels, dtype=torch.long)
    expected = sgd.losses_of(
        pair.torch, lambda: torch.nn.functional.cross_entropy(pair.theirs().flatten(0, 1), labels.flatten()), rate
    )

    def loss_of(params, images):
        logits = pair.run.model.apply({"params": params}, images, jnp.asarray(pair.tokens), train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, pair.labels).mean()

    @jax.jit
    def step(params, images):
        loss, gradient = jax.value_and_grad(loss_of)(params, images)
        return jax.tree.map(lambda x, g: x - rate * g, params, gradient), loss

    params, losses = pair.run.variables["params"], []
    for _ in range(10):
        params, loss = step(params, jnp.asarray(pair.images))
        losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    assert expected[-1] < expected[0] - 0.1


def test_greedy_decoding_is_the_same(pair):
    options = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False, "num_beams": 1}
    options |= {"max_new_tokens": 6, "eos_token_id": None, "pad_token_id": 0, "decoder_start_token_id": 1}
    with torch.no_grad():
        expected = pair.torch.generate(pair.pixels, **options)
    conditions = (jnp.asarray(pair.images),)
    decode = jax.jit(lambda variables: greedy(pair.run.model, variables, conditions, length=6))
    decoded = decode(pair.run.variables)
    assert np.asarray(decoded.tokens).tolist() == expected.sequences[:, -6:].tolist()
    best = torch.stack(expected.logits).log_softmax(-1).amax(-1)
    np.testing.assert_allclose(decoded.score, best.sum(0), atol=1e-3)


def test_transformers_loads_the_export_and_its_import_is_the_same(pair, tmp_path):
    write(pair.run, tmp_path / "ours")
    again = pair.load(tmp_path / "ours")
    family = families()["vision-encoder-decoder"]
    assert not family.differences(_fields(again.model), _fields(pair.run.model)) and again.task == pair.run.task
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, pair.run.variables))
    before, options = pair.torch, {"attn_implementation": "eager", "output_loading_info": True}
    pair.torch, report = transformers.VisionEncoderDecoderModel.from_pretrained(tmp_path / "ours", **options)
    assert all("pooler" in name for names in report.values() for name in names), report
    assert pair.torch.generation_config.decoder_start_token_id == 1
    with torch.no_grad():
        found = pair.theirs()
        pair.torch = before
        expected = pair.theirs()
    assert torch.equal(found, expected)
    written, stored = (load_file(folder / "model.safetensors") for folder in (tmp_path / "ours", pair.folder))
    assert written.keys() == {name for name in stored if "pooler" not in name}
    assert all(np.array_equal(written[name], stored[name]) for name in written)
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "ours", pair.folder))
    assert ours["encoder"].items() <= theirs["encoder"].items()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours")
    pixels = np.random.default_rng(2).integers(0, 256, (24, 24, 3), np.uint8)
    prepared = processor(pixels, return_tensors="pt").pixel_values.permute(0, 2, 3, 1)
    batch = {"image": jnp.asarray(pixels)[None], "index": jnp.arange(1)}
    np.testing.assert_allclose(pair.run.transform(None, batch)["image"], prepared, atol=1e-6)
