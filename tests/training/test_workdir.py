"""The files of a run's folder that other runs read."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import data
from configs import text
from core.errors import UserError
from core.info import Info
from tests.training import recipes
from training.config import default
from training.main import train
from training.workdir import Workdir


def test_a_folder_deleted_during_the_run_is_reported(tmp_path):
    workdir = Workdir(str(tmp_path / "run"))
    workdir.begin(default(), Info("made up", {}, {}), 0, 0)
    workdir.log(1, "train", {"loss": 1.0})
    shutil.rmtree(workdir.path)
    with pytest.raises(UserError, match="run was deleted during the run"):
        workdir.log(2, "train", {"loss": 1.0})
    workdir.status("failed", 2, 3)
    workdir.close()
    assert not workdir.path.exists()


@pytest.mark.slow
def test_another_run_takes_the_tokenizer(tmp_path):
    sentences = [f"{name} runs here {i}" for i in range(20) for name in ("anna", "bob")]
    pd.DataFrame({"text": sentences, "label": ["a", "b"] * 20}).to_csv(tmp_path / "a.csv", index=False)
    config = recipes.small(text, "clinc_oos_recurrent")
    config.data.splits = text.get_config("class").data.splits
    config.data.name, config.data.target = f"csv:{tmp_path / 'a.csv'}", "label"
    info = train(config, str(tmp_path / "run"), None).run.info
    assert Info.from_json(json.loads((tmp_path / "run" / "info.json").read_text())) == info
    pd.DataFrame({"review": ["bob runs away"] * 4, "label": list("abab")}).to_csv(tmp_path / "b.csv", index=False)
    other = default().data
    other.name = f"csv:{tmp_path / 'b.csv'}"
    other.splits.update(train="train", test="")
    other.preprocess = (f"tokenize('review', run({str(tmp_path / 'run')!r}))",)
    splits, reused = data.load(other)
    first, second = info.keys["text"].vocabulary, reused.keys["review"].vocabulary
    assert second.size == first.size
    ids = splits["train"].batch(np.arange(1))["review"][0]
    assert [first.token(index) for index in ids] == ["<bos>", "bob", "runs", "<unk>", "<eos>"]
