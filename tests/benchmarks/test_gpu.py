"""The benchmark of GPUs: its networks are the same in both frameworks, and it imports little."""

import json
import subprocess
import sys

import pytest

HEAVY = ("data", "experiments", "grain", "ml_collections", "orbax", "reporting", "tensorflow_datasets", "training.run")


def test_smoke_mode_times_a_step_of_every_family(tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "rows.json"
    command = (sys.executable, "-m", "benchmarks.gpu", "--smoke", "--rounds=1", f"--output={output}")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = json.loads(output.read_text())["rows"]
    families = {row["network"].replace(",", "").split()[0].split("-")[0] for row in rows}
    assert families == {"MLP", "ResNet", "LSTM", "GRU", "RNN", "GPT", "Transformer"}
    assert all(row["ours_ms"] > 0 and row["torch_ms"] > 0 for row in rows)


@pytest.mark.slow
def test_the_step_of_every_family_imports_no_data_set_and_no_checkpoint_library():
    modules = "arch.gpt, arch.transformer, arch.mlp, arch.resnet, arch.rnn, tasks.sequence, training.step"
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run((sys.executable, "-c", code), check=True, capture_output=True, text=True).stdout.split()
    assert not set(HEAVY) & set(loaded)
