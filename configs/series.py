"""Forecasts of electricity transformers:
    python train.py --config=configs/series.py:24 --workdir=runs/ett --data_dir=DIR

ETT-h1 (Zhou 2021, arXiv 2012.07436): the input is 96 hours of 7 channels, the output the next 24, 48 or 96 hours (the
argument), all standardised; the splits are the usual 12, 4 and 4 months. Another horizon:
--config.data.preprocess.forecast.horizon=168

The model is one linear map per channel; a network is added by
    "--config.model.network=tcn.TCNClassifier(widths=(16, 16, 16, 16, 16), size=3, dropout=0.2)"

Squared error of the test split, mean (range) of seeds 0 to 2, half a minute each on one CPU core beside other work, jax
0.10.2; ridge regression on the same windows, and the last value repeated (benchmarks.baselines):
    24  0.297 (0.296-0.299); 0.296, 1.222        96  0.382 (0.382-0.382); 0.381, 1.294
Gradient descent that stops at the best evaluation bounds the map as ridge's penalty does (Ali 2019, arXiv 1810.10082).
With a change, seed 0, 24 and 96 hours:
    --config.optimizer.name=adamw --config.optimizer.learning_rate=1e-3    0.300, 0.384
    --config.model.normalisation=last                                      0.300, 0.386
    both                                                                   0.308, 0.385
"""

from training.config import default
from training.overrides import variant

# The loss is a mean over the hours that are forecast, so that the rate grows with their number.
VARIANTS = {  # hours to forecast
    "24": {"data.preprocess": ("forecast(window=96, horizon=24)",), "optimizer.learning_rate": 0.25},
    "48": {"data.preprocess": ("forecast(window=96, horizon=48)",), "optimizer.learning_rate": 0.5},
    "96": {"data.preprocess": ("forecast(window=96, horizon=96)",), "optimizer.learning_rate": 1.0},
}


def get_config(arg: str = "24"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.name = "ett/h1"
    config.data.splits.validation = "validation"
    config.task.name = "forecasting.Forecasting"
    config.task.inputs = ("past",)
    config.model.name = "forecaster.Forecaster"
    config.model.network = None
    config.model.normalisation = "none"
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.train.epochs = 10.0
    config.train.batch_size = 32
    config.eval.every = 0.1
    config.eval.batch_size = 100
    config.checkpoint.best = "-validation/mse"
    return variant(config, VARIANTS, arg)
