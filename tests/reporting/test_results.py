"""docs/results.md: generated from records, which finished runs give."""

import json

import pytest

from core.errors import UserError
from reporting import results
from tests.reporting.test_compare import run


def finished(folder, seed, accuracy, command="python train.py --config=configs/digits.py --workdir=/x", **changes):
    run(folder, accuracy, model__name="resnet.CifarResNet", **changes)
    record = {
        "step": 3,
        "results": {"validation": {"accuracy": 0.0}, "test": {"loss": 1.0, "accuracy": accuracy, "macro_f1": 0.5}},
        "seed": seed,
        "seconds": 60.0 + 10 * seed,
        "command": command,
        "devices": "1 x cpu",
        "processor": "2 cores of abacus",
        "versions": {},
    }
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def test_the_document_is_that_of_the_records():
    assert (results.DOCS / "results.md").read_text() == results.document(results.DOCS / "results"), (
        "docs/results.md is stale: python -m reporting.results"
    )


def test_every_record_has_the_name_of_its_run_and_a_recipe_that_exists():
    for path in (results.DOCS / "results").glob("*.json"):
        record = results.Record.read(path)
        assert path.name == record.file
        assert (results.DOCS.parent / record.recipe.partition(":")[0]).exists()


def test_runs_are_one_row_with_mean_and_range_over_seeds(tmp_path):
    for seed, accuracy in enumerate((0.5, 0.75)):
        results.add(finished(tmp_path / f"run{seed}", seed, accuracy), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["digits-0.json", "digits-1.json"]
    text = results.document(tmp_path)
    assert "## `configs/digits.py`\n\nMeasured on 2 cores of abacus; 1 x cpu.\n\n" in text
    cells = "resnet.CifarResNet | accuracy 62.50% (50.00% to 75.00%), macro f1 0.5 |  | 0, 1 | 1 min 5 s |"
    assert f"| `--config=configs/digits.py` | {cells}\n" in text


def test_what_was_changed_is_a_row_of_its_own(tmp_path):
    flags = (
        "--config configs/images.py:cifar10 --config.seed=3 --config.model.cell=layers.LSTM --data_dir=x --workdir=y"
    )
    results.add(finished(tmp_path / "a", 3, 0.5, f"python train.py {flags}", model__variant="20"), tmp_path)
    results.add(finished(tmp_path / "b", 3, 0.5, "python train.py --config=configs/images.py:cifar10"), tmp_path)
    text = results.document(tmp_path)
    assert (tmp_path / "images-cifar10-model.cell=layers.LSTM-3.json").exists()
    assert "| `--config=configs/images.py:cifar10` `--config.model.cell=layers.LSTM` | resnet.CifarResNet 20 |" in text
    assert "| `--config=configs/images.py:cifar10` | resnet.CifarResNet |" in text


def test_runs_replace_a_record_by_hand_and_keep_its_baseline_and_their_own_notes(tmp_path):
    by_hand = {"recipe": "configs/digits.py", "network": "n", "measured": "m", "result": "old", "recorded": "by hand"}
    (tmp_path / "digits.json").write_text(json.dumps({**by_hand, "baseline": "guess 10%"}))
    assert "| `--config=configs/digits.py` | n | old | guess 10% |" in results.document(tmp_path)
    workdir = finished(tmp_path / "run", 0, 0.5)
    results.add(workdir, tmp_path)
    record = json.loads((tmp_path / "digits-0.json").read_text())
    (tmp_path / "digits-0.json").write_text(json.dumps({**record, "note": "A note."}))
    results.add(workdir, tmp_path)
    text = results.document(tmp_path)
    assert "old" not in text and "| guess 10% |" in text and text.endswith("\n\nA note.\n")


def test_nothing_is_added_beside_a_folder_that_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DOCS", tmp_path)
    (tmp_path / "results").mkdir()
    with pytest.raises(UserError, match="is not the folder of a run"):
        results.main(["results", str(finished(tmp_path / "a", 0, 0.5)), str(tmp_path / "nowhere")])
    assert not list((tmp_path / "results").iterdir())


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="the run has not finished"):
        results.add(run(tmp_path / "a"), tmp_path)
    with pytest.raises(UserError, match="is not the folder of a run"):
        results.add(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match="no command with --config"):
        results.add(finished(tmp_path / "b", 0, 0.5, "python train.py --workdir=x"), tmp_path)
    with pytest.raises(UserError, match="no command with --config"):
        results.add(finished(tmp_path / "d", 0, 0.5, ""), tmp_path)
    (run(tmp_path / "e") / "results.json").write_text("")
    with pytest.raises(UserError, match=r"results.json is damaged"):
        results.add(tmp_path / "e", tmp_path)
    (tmp_path / "c.json").write_text('{"recipe": "configs/digits.py", "unknown": 1}')
    with pytest.raises(UserError, match=r"c\.json is not a record of results"):
        results.document(tmp_path)
