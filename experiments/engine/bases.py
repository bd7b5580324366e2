"""Bases that several experiments share and that are no recipe to be run by itself."""

from ml_collections import ConfigDict

from configs import digits


def digits_mlp(**train) -> ConfigDict:
    """Returns a dense ReLU network on 8 x 8 digits: plain SGD with momentum 0.9, constant rate, no regularisation."""
    config = digits.get_config()
    config.model = ConfigDict({"name": "mlp.MLP", "activation": "nn.relu"})
    config.augment.ops = ()
    config.optimizer.update(
        name="sgd", momentum=0.9, learning_rate=1e-3, schedule="constant", weight_decay=0.0, warmup_steps=0
    )
    config.train.update(epochs=0.0, **train)
    config.eval.every, config.eval.batch_size = 0, 360
    config.checkpoint.update(every=1000, best="")
    config.log.every = 100
    return config
