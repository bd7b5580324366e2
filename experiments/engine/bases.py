"""Base configs that several experiments share."""

from ml_collections import ConfigDict

from configs import digits


def digits_mlp(**train) -> ConfigDict:
    """Returns a dense ReLU network on 8 x 8 digits: SGD with momentum 0.9, a constant rate, no regularisation."""
    config = digits.get_config()
    config.model = ConfigDict({"name": "mlp.MLP", "activation": "nn.relu"})
    config.augment.ops = ("normalise()",)
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"
    config.optimizer.weight_decay = 0.0
    config.optimizer.warmup_steps = 0.0
    config.train.epochs = 0.0
    config.train.update(**train)
    config.eval.every = 0.0
    config.eval.batch_size = 360
    config.checkpoint.every = 1000.0
    config.checkpoint.best = ""
    return config
