"""predict.py of encoders with published weights: masks, classes of texts and pairs, tags, answers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from arch.pretrained.family import families
from core.errors import UserError
from core.vocabulary import Vocabulary
from data.preprocess.tokenizers import Unigram, Wordpiece, mark
from inference.predict import load, predict
from training import build
from training.config import validate
from training.overrides import override, recipe
from training.pretrained import published
from training.run import build_run

TEXTS = ["the cat sat on the mat", "the dog ran away", "a bird sang in the tree", "where is the dog"] * 5
SIZES = {"max_position_embeddings": 400, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 8}
DISTIL = {"max_position_embeddings": 400, "dim": 12, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
NAMES = ("B-PET", "I-PET", "O")  # in the order that a table's classes get
TOKENIZERS = {"bert": Wordpiece(80), "distilbert": Wordpiece(80), "roberta": Unigram(60)}


def write(folder, kind, architecture, **changes):
    """Writes random weights of a `model_type`, and a tokenizer. Returns the parameters by path."""
    family, tokenizer = families()[kind], TOKENIZERS[kind](TEXTS)
    mark(tokenizer)
    sizes = DISTIL if kind == "distilbert" else SIZES
    config = {"model_type": kind, "architectures": [architecture], "vocab_size": tokenizer.get_vocab_size()}
    config |= {**sizes, "id2label": {str(i): name for i, name in enumerate(NAMES)}, **changes}
    model = build.construct(ConfigDict({"name": family.model, **family.read_config(config)}), "arch")
    inputs = jnp.zeros((1, 4), jnp.int32), jnp.array([4])
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(0)
    params = {path: rng.normal(0, 0.5, x.shape).astype(np.float32) for path, x in flatten_dict(shapes, sep="/").items()}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    arrays = family.write_weights(params, family.read_config(config))
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def untrained(folder, argument):
    """Returns the config of a recipe of configs/bert.py with the folder's weights."""
    config = recipe(f"configs/bert.py:{argument}")
    return validate(override(config, {"init_from": f"hf:{folder}"})[0])


def outputs(source, *inputs):
    run = load(source)
    apply = jax.jit(functools.partial(run.model.apply, train=False))
    return np.asarray(apply(run.variables, *map(jnp.asarray, inputs)))


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_masks_are_filled(kind, tmp_path):
    names = {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM", "distilbert": "DistilBertForMaskedLM"}
    pad = {"pad_token_id": 1} if kind == "roberta" else {}
    tokenizer = write(tmp_path, kind, names[kind], **pad)
    config = untrained(tmp_path, "pretrain,text")
    vocabulary = Vocabulary.of(tokenizer)
    text = f"the {tokenizer.id_to_token(vocabulary.mask)} ran away"
    encoded = tokenizer.encode(text)
    logits = outputs(config, [encoded.ids], [len(encoded.ids)])[0]
    place = encoded.ids.index(vocabulary.mask)
    expected = list(encoded.ids)
    expected[place] = int(logits[place].argmax())
    one, two = predict(config, [], [text, text.replace("ran", tokenizer.id_to_token(vocabulary.mask))]).rows
    assert one["prediction"] == vocabulary.text(expected)
    best = np.exp(logits[place].max() - jax.nn.logsumexp(logits[place]))
    assert max(one["probability"].values()) == pytest.approx(float(best), rel=1e-4)
    assert "probability" not in two and len(two["prediction"]) > 0


@pytest.mark.slow
def test_classes_of_texts_and_pairs_and_tags_have_the_names_of_the_model(tmp_path):
    tokenizer = write(tmp_path, "bert", "BertForSequenceClassification")
    encoded = tokenizer.encode("the cat")
    logits = outputs(untrained(tmp_path, "finetune,class"), [encoded.ids], [len(encoded.ids)])[0]
    (row,) = predict(untrained(tmp_path, "finetune,class"), [], ["the cat"]).rows
    assert list(row["probability"]) == list(NAMES) and row["prediction"] == NAMES[logits.argmax()]
    np.testing.assert_allclose(list(row["probability"].values()), jax.nn.softmax(logits), atol=1e-5)

    pair = tokenizer.encode("the cat", "a tree")
    logits = outputs(untrained(tmp_path, "finetune,pair"), [pair.ids], [len(pair.ids)], [pair.type_ids])[0]
    pd.DataFrame({"first": ["the cat"], "second": ["a tree"]}).to_csv(tmp_path / "pairs.csv", index=False)
    (row,) = predict(untrained(tmp_path, "finetune,pair"), [str(tmp_path / "pairs.csv")]).rows
    np.testing.assert_allclose(list(row["probability"].values()), jax.nn.softmax(logits), atol=1e-5)

    write(tmp_path, "bert", "BertForTokenClassification")
    (row,) = predict(untrained(tmp_path, "finetune,tags"), [], ["the dogat ran"]).rows
    words = tokenizer.encode(["the", "dogat", "ran"], is_pretokenized=True)
    first = [words.word_ids.index(i) for i in range(3)]
    assert len(words.ids) > 5  # a word of several pieces
    logits = outputs(untrained(tmp_path, "finetune,tags"), [words.ids], [len(words.ids)])[0]
    assert row["prediction"] == [NAMES[i] for i in logits[first].argmax(-1)]


@pytest.mark.slow
@pytest.mark.slow
def test_questions_about_texts(tmp_path):
    write(tmp_path, "distilbert", "DistilBertForQuestionAnswering")
    questions = {"question": ["where is the dog", "where is the cat"], "context": ["the dog ran away", "on the mat"]}
    pd.DataFrame(questions).to_csv(tmp_path / "questions.csv", index=False)
    pd.DataFrame(questions).to_json(tmp_path / "questions.jsonl", orient="records", lines=True)
    config = untrained(tmp_path, "finetune,xquad")
    rows = predict(config, [str(tmp_path / "questions.csv")]).rows
    assert all(row["prediction"] in text for row, text in zip(rows, questions["context"], strict=True))
    again = predict(config, [str(tmp_path / "questions.jsonl")]).rows
    assert [row["prediction"] for row in again] == [row["prediction"] for row in rows]
    with pytest.raises(UserError, match=r"give .*csv.*not lines"):
        predict(config, [], ["where is the dog"])


def test_a_model_with_another_head_cannot_predict(tmp_path):
    write(tmp_path, "bert", "BertForMaskedLM")
    with pytest.raises(UserError, match=r"\(BertForMaskedLM\): parameter output/head/bias has the shape \(0,\) here"):
        load(untrained(tmp_path, "finetune,class"))
    config = json.loads((tmp_path / "config.json").read_text()) | {"problem_type": "regression"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(UserError, match="problem_type 'regression'"):
        load(untrained(tmp_path, "finetune,class"))


def short(argument, **changes):
    """Returns the config of a run of one step."""
    config = recipe(f"configs/bert.py:{argument}")
    small = {"train.steps": 1, "train.batch_size": 8, "eval.batch_size": 8, "log.writers": ()}
    small |= {"train.epochs": 0.0, "eval.every": 0.0, "checkpoint.best": "", "optimizer.warmup_steps": 0}
    return validate(override(config, small | changes)[0])


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(("classes", "is_new"), [(NAMES, False), (("x", "y", "z"), True)])
def test_the_head_is_loaded_for_the_same_classes_alone(classes, is_new, tmp_path):
    write(tmp_path / "hf", "bert", "BertForSequenceClassification")
    pd.DataFrame({"text": TEXTS[:12], "label": classes * 4}).to_csv(tmp_path / "own.csv", index=False)
    name = {"data.name": f"csv:{tmp_path / 'own.csv'}", "init_from": f"hf:{tmp_path / 'hf'}"}
    splits = {"data.splits.train": "train", "data.splits.validation": "", "data.splits.test": ""}
    lines = []
    config = short("finetune,class", **name, **splits)
    params = build_run(config, None).create_states(lines.append)[0].params
    assert ("output/head/kernel: the head is new" in "\n".join(lines)) == is_new
    theirs = published(f"hf:{tmp_path / 'hf'}").params()[0]
    loaded = flatten_dict(params, sep="/")
    same = {path for path in theirs if np.array_equal(loaded[path], theirs[path])}
    assert theirs.keys() - same == ({"output/head/kernel", "output/head/bias"} if is_new else set())
    assert config.model.context == 400 and config.model.head == "bert.TextClassifier"
