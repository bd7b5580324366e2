"""Images by ResNets: python train.py --config=configs/images.py:cifar10 --workdir=runs/cifar10 [--data_dir=...]

cmaterdb (Bangla digits), mnist, fashion_mnist, cifar10, cifar100: ResNet-20 by the recipe of He 2016 (arXiv 1512.03385,
section 4.2): SGD with momentum 0.9, learning rate 0.1 divided by 10 at 1/2 and 3/4 of the steps, weight decay 1e-4 on
everything, batches of 128, padded crop and (where mirrored images are of the same class) flip.

cmaterdb: test accuracy 99.0% (98.8-99.1 over seeds 0, 1, 2) in 2 min 14 s; two CPU cores, jax 0.10.2.
mnist, fashion_mnist, cifar10 (91.25% expected, He 2016), cifar100: not run here, only on generated data of their shape.
"""

from core.errors import UserError, nearest
from training.config import default

# argument -> (TFDS name, steps, augmentations)
CROP, FLIP = "padded_crop(padding=4)", "flip()"
SETS = {
    "cmaterdb": ("cmaterdb/bangla", 500, ("padded_crop(padding=2)",)),
    "mnist": ("mnist", 6_000, ("padded_crop(padding=2)",)),
    "fashion_mnist": ("fashion_mnist", 20_000, (CROP, FLIP)),
    "cifar10": ("cifar10", 64_000, (CROP, FLIP)),
    "cifar100": ("cifar100", 64_000, (CROP, FLIP)),
}


def get_config(name: str = "cifar10"):
    """Returns the config for one of SETS."""
    if name not in SETS:
        raise UserError(f"configs/images.py:{name}: {nearest(name, SETS)}")
    config = default()
    config.data.name, config.train.steps, config.augment.ops = SETS[name]
    config.model.name = "resnet.CifarResNet"
    config.model.depth = 20
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = "step(boundaries=(0.5, 0.75), factor=0.1)"
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay = (".*",)
    config.train.batch_size = 128
    config.eval.every = config.train.steps // 8
    config.checkpoint.every = config.train.steps // 8
    config.log.every = min(100, config.train.steps // 20)
    return config
