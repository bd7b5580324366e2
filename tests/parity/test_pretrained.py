"""Published weights against transformers: randomly initialised models of odd sizes, in both directions. They need
PyTorch and transformers (`make parity`)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from arch.layers.trunk import Block
from arch.pretrained.family import families
from core.vocabulary import Vocabulary
from data.preprocess import marian
from inference.export import write
from inference.predict import load
from tests.parity import sgd
from training import build
from training.config import default
from training.decoding import greedy
from training.overrides import override
from training.pretrained import published

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GPT = {"vocab_size": 31, "n_positions": 17, "n_embd": 15, "n_layer": 3, "n_head": 3, **NO_DROPOUT}
LLAMA = {"vocab_size": 31, "max_position_embeddings": 17, "hidden_size": 30, "intermediate_size": 23}
LLAMA |= {"num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1, "rms_norm_eps": 3e-6}
SCALING = {"rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MARIAN = {"vocab_size": 31, "max_position_embeddings": 17, "d_model": 18, "encoder_layers": 2, "decoder_layers": 3}
MARIAN |= {f"{side}_attention_heads": 3 for side in ("encoder", "decoder")}
MARIAN |= {f"{side}_ffn_dim": 7 for side in ("encoder", "decoder")}
MARIAN |= {"dropout": 0.0, "activation_function": "swish", "scale_embedding": True, "pad_token_id": 30}
MARIAN |= {"decoder_start_token_id": 29, "eos_token_id": 0, "forced_eos_token_id": None}
CASES = {
    "GPT-1": ("openai-gpt", GPT),
    "GPT-2": ("gpt2", GPT | {"n_inner": 22}),
    "GPT-2 with another activation, epsilon and head": (
        "gpt2",
        GPT | {"activation_function": "gelu", "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False},
    ),
    "Llama": ("llama", LLAMA | {"head_dim": 6, "rope_parameters": {"rope_type": "default", "rope_theta": 70.0}}),
    "Llama 3.1": (
        "llama",
        LLAMA
        | {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "attention_bias": True, "mlp_bias": True}
        | {"tie_word_embeddings": True, "rope_parameters": SCALING | {"original_max_position_embeddings": 9}},
    ),
    "Qwen2": ("qwen2", LLAMA | {"hidden_act": "gelu"}),
    "Qwen3": ("qwen3", LLAMA | {"head_dim": 4, "tie_word_embeddings": True, "attention_bias": False}),
    "Marian": ("marian", MARIAN),
    "Marian with two vocabularies": (
        "marian",
        MARIAN | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 33},
    ),
}


class Pair:
    """A model of transformers with random weights and biases, saved, and the same model read by this project."""

    def __init__(self, name: str, folder):
        kind, options = CASES[name]
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **options)
        config._attn_implementation = "eager"
        self.is_pair = config.is_encoder_decoder
        auto = transformers.AutoModelForSeq2SeqLM if self.is_pair else transformers.AutoModelForCausalLM
        self.torch = auto.from_config(config).eval()
        with torch.no_grad():
            for parameter in self.torch.parameters():
                if parameter.requires_grad:  # not the fixed sinusoids
                    parameter.normal_(0, 0.3)
            if self.is_pair:
                self.torch.final_logits_bias.normal_(0, 0.3)
        self.folder = folder / "theirs"
        self.torch.save_pretrained(self.folder)
        self.published = published(f"hf:{self.folder}")
        self.model = build.construct(ConfigDict(self.published.model), "arch")
        flat, self.unknown = self.published.params()
        self.params = unflatten_dict(flat, sep="/")
        rng = np.random.default_rng(1)
        self.tokens, self.labels = rng.integers(1, 28, (2, 2, 11)).astype(np.int32)
        self.source, self.lengths = rng.integers(1, 28, (2, 9)).astype(np.int32), np.array([9, 5], np.int32)

    @property
    def inputs(self):
        return tuple(map(jnp.asarray, (self.source, self.lengths, self.tokens) if self.is_pair else (self.tokens,)))

    def theirs(self):
        """Returns the logits of transformers."""
        tokens = torch.tensor(self.tokens, dtype=torch.long)
        if not self.is_pair:
            return self.torch(tokens).logits
        mask = torch.arange(9)[None] < torch.tensor(self.lengths)[:, None]
        source = torch.tensor(self.source, dtype=torch.long)
        return self.torch(source, attention_mask=mask.long(), decoder_input_ids=tokens).logits


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    return Pair(request.param, tmp_path_factory.mktemp("hf"))


def blocks_of(module):
    """Returns the blocks of a model of transformers, encoder before decoder, as this project orders them by name."""
    lists = [child for child in module.modules() if isinstance(child, torch.nn.ModuleList)]
    return [block for blocks in sorted(lists, key=len) for block in blocks]  # the decoders here are deeper


def test_every_block_and_the_logits_are_equal(pair):
    outputs, hooks = [], []
    for block in blocks_of(pair.torch):
        hooks.append(block.register_forward_hook(lambda module, inputs, output: outputs.append(output)))
    with torch.no_grad():
        expected = pair.theirs().numpy()
    for hook in hooks:
        hook.remove()
    is_block = lambda module, method: isinstance(module, Block) and method == "__call__"  # noqa: E731
    apply = functools.partial(pair.model.apply, train=False, capture_intermediates=is_block, mutable=["intermediates"])
    logits, captured = jax.jit(apply)({"params": pair.params}, *pair.inputs)
    found = flatten_dict(captured["intermediates"], sep="/")
    found = {path: x for path, x in found.items() if path.endswith("__call__")}  # without attention weights
    order = sorted(found, key=lambda path: ("decoder" in path, path))
    assert not pair.unknown and len(order) == len(outputs) >= 3
    real = np.arange(9)[None] < pair.lengths[:, None]
    for path, theirs in zip(order, outputs, strict=True):
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs[0]
        ours, theirs = np.asarray(found[path][0][0]), theirs.numpy()
        if path.startswith("encoder"):
            ours, theirs = ours[real], theirs[real]  # padding may hold anything
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=path)
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5


def test_ten_steps_of_sgd_give_the_same_losses(pair):
    """Marian's padding token does not occur, whose embedding gets no gradient there, and the bias of the logits is no
    parameter of it."""
    rate, labels = 0.1, torch.tensor(pair.labels, dtype=torch.long)
    expected = sgd.losses_of(
        pair.torch, lambda: torch.nn.functional.cross_entropy(pair.theirs().flatten(0, 1), labels.flatten()), rate
    )

    def loss_of(params):
        logits = pair.model.apply({"params": params}, *pair.inputs, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, pair.labels).mean()

    @jax.jit
    def step(params):
        loss, gradient = jax.value_and_grad(loss_of)(params)
        gradient = {name: jax.tree.map(jnp.zeros_like, x) if name == "head_bias" else x for name, x in gradient.items()}
        return jax.tree.map(lambda x, g: x - rate * g, params, gradient), loss

    params, losses = pair.params, []
    for _ in range(10):
        params, loss = step(params)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    assert expected[-1] < expected[0] - 0.1


def test_greedy_decoding_is_the_same(pair):
    options = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False}
    options |= {"max_new_tokens": 6, "eos_token_id": None, "pad_token_id": 30, "num_beams": 1}
    with torch.no_grad():
        if pair.is_pair:
            mask = (torch.arange(9)[None] < torch.tensor(pair.lengths)[:, None]).long()
            source = torch.tensor(pair.source, dtype=torch.long)
            expected = pair.torch.generate(source, attention_mask=mask, **options)
        else:
            prompt = torch.tensor(pair.tokens, dtype=torch.long)
            expected = pair.torch.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    conditions = pair.inputs[:2] if pair.is_pair else (*pair.inputs, jnp.array([11, 11], jnp.int32))
    decoded = jax.jit(lambda params: greedy(pair.model, {"params": params}, conditions, length=6))(pair.params)
    assert np.asarray(decoded.tokens).tolist() == expected.sequences[:, -6:].tolist()
    best = torch.stack(expected.logits).log_softmax(-1).amax(-1)
    np.testing.assert_allclose(decoded.score, best.sum(0), atol=1e-3)


def test_transformers_loads_the_export(pair, tmp_path):
    words = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *(f"w{i}" for i in range(27))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(pair.folder / "tokenizer.json"))
    config = default()
    config.task.name, config.task.inputs = "sequence.TokenClassification", ("tokens",)
    if pair.is_pair:
        config.task.name, config.task.inputs = "generation.Generation", ("source", "source_lengths", "target")
    run = load(override(config, {"init_from": f"hf:{pair.folder}"})[0])
    write(run, tmp_path / "ours")
    before, pair.torch = pair.torch, type(pair.torch).from_pretrained(tmp_path / "ours", attn_implementation="eager")
    with torch.no_grad():
        found = pair.theirs()
        pair.torch = before
        expected = pair.theirs()
    assert torch.equal(found, expected)
    # AutoTokenizer does the same, but for qwen2, where it takes Qwen's own class whatever the files name
    again = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "ours")
    assert again("w3 w26 other", add_special_tokens=False).input_ids == [7, 30, 3]
    assert (again.eos_token_id, again.pad_token_id) == (2, 0)


def test_marian_tokenizers_are_those_of_transformers(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    rng = np.random.default_rng(0)
    english = "the cat sat on a mat and the dog ran away while birds sang in trees near john 's old house , quickly"
    german = "die katze saß auf der matte und der hund lief davon während vögel in bäumen nahe johns haus sangen ,"
    words, pieces = {"source": english.split(), "target": german.split()}, ["</s>", "<unk>"]
    for side, known in words.items():
        lines = (" ".join(rng.choice(known, 8)) for _ in range(500))
        prefix = str(tmp_path / side)
        options = {"vocab_size": 60, "character_coverage": 1.0, "hard_vocab_limit": False, "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix=prefix, **options)
        (tmp_path / f"{side}.model").rename(tmp_path / f"{side}.spm")
        trained = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.spm")
        pieces += [trained.id_to_piece(i) for i in range(3, trained.get_piece_size())]
    pieces = [*dict.fromkeys(pieces), ">>deu<<", "<pad>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    files = (str(tmp_path / name) for name in ("source.spm", "target.spm", "vocab.json"))
    theirs = transformers.MarianTokenizer(*files)
    source, target = (marian.tokenizer(tmp_path, side) for side in ("source", "target"))
    pad, others = len(pieces) - 1, ["8 % the", " two  spaces", "Katze", "\uff57\uff49de the", ">>deu<< the cat", "s ß"]
    for text in [*(" ".join(rng.choice(words["source"], 6)) for _ in range(40)), *others]:
        assert source.encode(text).ids == theirs(text).input_ids, text
    for text in [*(" ".join(rng.choice(words["target"], 6)) for _ in range(40)), "ß und 8"]:
        ids = theirs(text_target=text).input_ids
        assert target.encode(text).ids == [pad, *ids], text
        kept = [i for i in ids if i > 1]
        assert target.decode(kept) == theirs.decode(kept, use_source_tokenizer=False), text
    vocabulary = Vocabulary.of(target)
    assert (vocabulary.size, vocabulary.bos, vocabulary.eos, vocabulary.pad) == (len(pieces), pad, 0, pad)


def test_names_and_arrays_come_back(pair):
    family = families()[pair.published.config["model_type"]]
    written = family.write_weights(pair.published.params()[0], pair.published.fields)
    stored = load_file(pair.folder / "model.safetensors")
    assert written.keys() == stored.keys()
    assert all(np.array_equal(written[name], stored[name]) for name in stored)
