"""predict.py of encoders that this project trained: masks, answers to questions; the export of such a run."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from core.info import Info
from inference import export
from inference.predict import Trained, load, predict
from tests.inference.test_predict_encoders import TEXTS, short, untrained
from training import build
from training.pretrained import published
from training.run import build_run

SMALL = {"model.variant": "test", "model.context": 64}


@pytest.fixture
def trained(monkeypatch):
    """Returns a function of a config: its run with random weights, which `predict` then finds as "run"."""

    def make(config):
        run = build_run(config, None)
        inputs = build.model_inputs(run.task, run.transform, run.info)
        shapes = jax.eval_shape(functools.partial(run.model.init, train=False), jax.random.key(0), *inputs)
        rng = np.random.default_rng(0)
        variables = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), shapes)
        info = Info.from_json(json.loads(json.dumps(run.info.to_json())))
        found = Trained(config, info, run.task, run.model, variables, run.transform)
        monkeypatch.setattr("inference.predict.load", lambda source: found if source == "run" else load(source))
        return found

    return make


@pytest.mark.slow
def test_a_run_fills_masks_and_its_export_does_the_same(trained, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS))
    preprocess = ("tokenize('text', start(wordpiece(80)), special=False)", "passages('text', 64)")
    changes = {"data.name": f"text:{tmp_path / 'text.txt'}", "data.preprocess": preprocess, **SMALL}
    run = trained(short("pretrain,text", **changes, **{"model.head": "bert.MaskedTokens"}))
    lines = ["the [MASK] ran away"]
    (row,) = predict("run", [], lines).rows
    assert row["input"] == lines[0] and row["probability"]
    export.write(run, tmp_path / "exported")
    config = published(f"hf:{tmp_path / 'exported'}").config
    assert config["model_type"] == "bert" and config["architectures"] == ["BertForMaskedLM"]
    (again,) = predict(untrained(tmp_path / "exported", "pretrain,text"), [], lines).rows
    assert again["prediction"] == row["prediction"]
    assert again["probability"] == pytest.approx(row["probability"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.slow
def test_a_run_answers_questions(trained, tmp_path):
    rows = [{"question": "where is the dog", "context": text, "answer": text.split()[1]} for text in TEXTS]
    rows = [row | {"answer_start": row["context"].index(row["answer"])} for row in rows]
    pd.DataFrame(rows).to_json(tmp_path / "own.jsonl", orient="records", lines=True)
    changes = {"data.name": f"jsonl:{tmp_path / 'own.jsonl'}", "model.head": "bert.AnswerSpan", **SMALL}
    splits = {"data.splits.train": "train[:80%]", "data.splits.validation": "train[80%:]", "data.splits.test": ""}
    trained(short("finetune,xquad", **changes, **splits))
    pd.DataFrame(rows)[["question", "context"]].to_csv(tmp_path / "new.csv", index=False)
    found = predict("run", [str(tmp_path / "new.csv")]).rows
    assert len(found) == len(rows)
    assert all(row["prediction"] in each["context"] for row, each in zip(found, rows, strict=True))
