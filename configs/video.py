"""Videos and volumes by 3-D ResNets (Tran et al. 2018, arXiv 1711.11248):
    python train.py --config=configs/video.py:moving_digits --workdir=runs/motion

moving_digits: four motions of a digit, which only the order of the frames tells. Guessing is right in 25%.
digit_volumes: digits as bodies in space, turned by up to 60 degrees around any axis.
camvid: clips of drives through streets, forwards or backwards, on a drive that training does not see; half are guessed.
tissues: patches of an image of a brain and the tissue in the middle, on a slab that training does not see; a third is
    guessed.
clips: your own videos, DIR/CLASS/CLIP/1.png, ...: --config.data.name=frames:DIR
Another network: --config.model.temporal="(False,)" (2-D, frame by frame, averaged over time),
    --config.model.block=video_resnet.FactorisedBlock (2-D in space, then 1-D in time), --config.model.name=c3d.C3D
Predict a clip, a folder of its frames or an array [t, h, w] in a .npy file:
    python predict.py --workdir=runs/motion CLIP

Test accuracy; baselines by benchmarks/baselines.py:
    moving_digits  100% (seeds 0 to 2), 70 s on an NVIDIA H200 beside twelve other runs; frame by frame, averaged over
                   time, 24.7% (23.3-26.4). A random forest has 51.3% on pooled frames, 100% on their changes too
    digit_volumes  97.6% (97.2-97.8), 4 to 16 min on one busy core; random forest on pooled voxels 90.2%
    camvid         84.8% (seed 0), 7 min on two busy cores; logistic regression on pooled frames and changes 55.4%
    tissues        85.0% (84.2-85.8, seeds 0 to 2), 2 min on one core; a random forest on pooled voxels has 84.3%
"""

from training.config import default
from training.overrides import variant

VARIANTS = {
    "moving_digits": {"data.name": "moving_digits"},
    "digit_volumes": {
        "data.name": "digit_volumes",
        "task.inputs": ("volume",),
        "model.width": 16,
        "train.epochs": 10.0,
    },
    "camvid": {
        "data.name": "camvid_clips",
        "data.preprocess": ("resize(30, 40)",),
        "augment.ops": ("flip()", "normalise()"),
        "train.epochs": 30.0,
    },
    "tissues": {
        "data.name": "brain_tissues",
        "augment.ops": ("flip(vertical=True)", "normalise()"),
        "task.inputs": ("volume",),
        "model.width": 16,
        "train.epochs": 10.0,
    },
    "clips": {
        "data.name": "",
        "data.splits.train": "train[:80%]",
        "data.splits.validation": "train[80%:90%]",
        "data.splits.test": "train[90%:]",
        "data.preprocess": ("sample_frames(16)", "resize(112, 112)"),
        "augment.ops": ("random_resized_crop(area=(0.5, 1.0))", "flip()", "normalise()"),
        "model.blocks": (2, 2, 2, 2),
        "model.width": 64,
        "optimizer.learning_rate": 1e-3,
        "train.epochs": 50.0,
        "train.batch_size": 32,
        "eval.every": 0.1,
        "checkpoint.best": "-validation/loss",
    },
}


def get_config(arg: str = "moving_digits"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.splits.validation = "validation"
    config.task.inputs = ("video",)
    config.augment.ops = ("normalise()",)
    config.model.name = "video_resnet.VideoResNet"
    config.model.blocks = (1, 1, 1)
    config.model.width = 8
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine()"
    config.optimizer.warmup_steps = 0.05
    config.optimizer.weight_decay = 1e-2
    config.train.epochs = 8.0
    config.train.batch_size = 64
    return variant(config, VARIANTS, arg)
