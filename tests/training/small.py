"""A recipe of seconds with every source of randomness on: dropout, augmentation, mixing, EMA, BatchNorm."""

from training.config import default


def get_config():
    config = default()
    config.model.name = "mlp.MLP"
    config.model.widths = (32, 32)
    config.model.dropout = 0.2
    config.model.norm = "layers.norm.batch_norm"
    config.data.name = "digits"
    config.data.splits = {"train": "train[:80%]", "validation": "train[80%:]", "test": "test"}
    config.augment.ops = ("padded_crop(padding=1)", "mixup(alpha=0.2)", "normalise()")
    config.optimizer.warmup_steps = 10
    config.train.steps = 500
    config.train.batch_size = 32
    config.train.ema_decay = 0.99
    config.eval.every = 100
    config.checkpoint.every = 35
    config.checkpoint.best = "validation_ema/accuracy"
    config.log.every = 20
    return config
