"""Step times and simple baselines of experiments/suite.py, which reads them from experiments/suite.json:

    python -m benchmarks.suite [--only=images_builtin,text] [--data_dir=DIR] [--rounds=5]

One device with one core; medians over rounds of the milliseconds per step, interleaved within a modality. The baseline
is the best of `benchmarks.baselines` on the test split, whose own settings were chosen on the validation split.
"""

import argparse
import json
import os
import sys

from benchmarks.baselines import Row, baselines
from benchmarks.rows import step_times
from configs import suite
from core.cli import guarded, set_environment
from core.errors import UserError, nearest
from experiments.suite import MEASURED
from training import environment
from training.config import validate
from training.run import build_run


def best(metric: str, rows: list[Row]) -> dict[str, str | float]:
    """Returns the best baseline by a metric, SPLIT/METRIC with a minus if lower is better."""
    sign, name = (-1 if metric.startswith("-") else 1), metric.rpartition("/")[2]
    row = max((row for row in rows if row.metric == name), key=lambda row: sign * row.value)
    return {"name": row.baseline, "value": row.value}


def baseline(modality: str, data_dir: str | None) -> dict[str, str | float]:
    """Returns the best simple baseline of a modality, {} if none fits."""
    run = build_run(validate(suite.get_config(f"{modality},{suite.architectures(modality)[0]}")), data_dir)
    try:
        return best(suite.MODALITIES[modality].metric, baselines(run.splits, run.info))
    except UserError as error:
        print(f"{modality}: {error}")
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(suite.MODALITIES), help="modalities, separated by commas")
    parser.add_argument("--data_dir")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    modalities = arguments.only.split(",")
    if unknown := [name for name in modalities if name not in suite.MODALITIES]:
        raise UserError(f"--only: unknown modality {unknown[0]!r}: {nearest(unknown[0], suite.MODALITIES)}")
    for modality in modalities:
        configs = {name: suite.get_config(f"{modality},{name}") for name in suite.architectures(modality)}
        times = step_times(configs, arguments.data_dir, arguments.rounds)
        simple = baseline(modality, arguments.data_dir)
        measured = json.loads(MEASURED.read_text())
        measured["ms"][modality], measured["baselines"][modality] = times, simple
        measured["hardware"] = environment.processor()
        MEASURED.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")
        print(f"{modality}: {simple}", *(f"{name} {ms:.1f} ms" for name, ms in times.items()), sep="\n  ", flush=True)


if __name__ == "__main__":
    set_environment()
    # Waiting threads of boosting that spin are slow when cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(guarded(main))
