"""LSTM without one of its parts (Greff 2015):
    python -m experiments.run --config=experiments/lstm_variants.py:cpu --data_dir=DIR

The vanilla LSTM, with peepholes, and the paper's eight variants with one change each, on Bach's chorales, one of its
three data sets; the paper's text gives no values for it. The paper tunes by random search, 5400 runs: here all rows
have the same rate, which according to the paper matters most and depends little on the variant.
"""

from configs import music
from experiments.engine.experiment import Claim, Paper, Scale, experiment

VARIANTS = {
    "vanilla": "",
    "no-input-gate": "input_gate=False",
    "no-forget-gate": "forget_gate=False",
    "no-output-gate": "output_gate=False",
    "no-input-activation": "input_activation=None",
    "no-output-activation": "output_activation=None",
    "no-peepholes": "peepholes=False",
    "coupled-gates": "coupled=True",
    "full-gate-recurrence": "full_gate_recurrence=True",
}


def cell(change: str) -> str:
    peepholes = "" if "peepholes" in change else "peepholes=True"
    return f"layers.recurrent_variants.VariantLSTM({', '.join(filter(None, (peepholes, change)))})"


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="-test/nll",
        rows={label: {"model.cell": cell(change)} for label, change in VARIANTS.items()},
        scales={"cpu": Scale(base=chorales(600), minutes=10.0), "full": Scale(base=music.get_config("jsb"))},
        paper=Paper(title="LSTM: A Search Space Odyssey", arxiv="1503.04069", table="Figure 3"),
        claims=(
            Claim("vanilla", "no-forget-gate", "Removing the forget gate makes it worse (sec. V-B)."),
            Claim("vanilla", "no-output-activation", "Removing the output activation makes it worse."),
            Claim("coupled-gates", "vanilla", "Coupled gates are at most 0.1 nats worse.", -0.1),
            Claim("no-peepholes", "vanilla", "Removing peepholes costs at most 0.1 nats.", -0.1),
            Claim("vanilla", "full-gate-recurrence", "Full gate recurrence is at most 0.1 nats better.", -0.1),
        ),
    )


def chorales(steps: int):
    """Returns the recipe of the chorales at a larger rate, which evaluates the last weights and allows one process."""
    config = music.get_config("jsb")
    config.data.buckets = 0
    config.optimizer.learning_rate = 1e-2
    config.train.steps = steps
    config.train.patience = 0
    config.eval.every = 0.0
    config.checkpoint.best = ""
    config.checkpoint.every = 0.5
    return config
