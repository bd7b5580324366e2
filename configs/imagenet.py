"""ImageNet: python train.py --config=configs/imagenet.py:resnet50 --workdir=runs/resnet50 --data_dir=DIR

resnet50: ResNet-50 (He 2016, arXiv 1512.03385) with large batches (Goyal 2017, 1706.02677): 76.3% expected.
convnext_t: ConvNeXt-T (Liu 2022, 2201.03545, table 5): 82.1% expected.
vit_b16: ViT-B/16 (Dosovitskiy 2020, 2010.11929, table 3), mixer_b16: Mixer-B/16 (Tolstikhin 2021, 2105.01601), from
scratch: 79.7% and 76.4% expected (the latter's table 3). gmlp_s: gMLP-S (Liu 2021, 2105.08050, table 1): 79.6%.

For TPUs and GPUs, in bfloat16. Images are resized to 256x256 whatever their aspect; evaluation reads the central
224x224. TFDS prepares imagenet2012 from files that it cannot download itself (see its catalogue).

Not run. Tested on generated data of its shape only.
"""

from training.config import default
from training.overrides import variant

CROP = ("random_resized_crop(size=(224, 224))", "flip()")
NORMALISE = ("central_crop((224, 224))", "normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))")
DEIT = (  # Touvron 2021, arXiv 2012.12877, table 9
    *CROP,
    "rand_augment(num_ops=2, magnitude=9)",
    "random_erasing(probability=0.25)",
    "mixup_or_cutmix(alpha=0.8, box_alpha=1.0)",
    *NORMALISE,
)
PATCHES = {  # of ViT, Mixer and gMLP
    "optimizer.warmup_steps": 10_000 / 93_836,  # 10,000 of 300 epochs of 1,281,167 images
    "optimizer.clip_norm": 1.0,
    "train.epochs": 300.0,
    "train.batch_size": 4096,
}
VARIANTS = {
    "resnet50": {
        "model.name": "resnet.ResNet",
        "model.variant": "50",
        "model.zero_init": True,
        "augment.ops": (*CROP, *NORMALISE),
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": True,
        "optimizer.learning_rate": 0.4,  # 0.1 per 256 examples
        "optimizer.schedule": "step(boundaries=(0.3333, 0.6667, 0.8889), factor=0.1)",
        "optimizer.warmup_steps": 5 / 90,
        "optimizer.weight_decay": 1e-4,
        "train.epochs": 90.0,
        "train.batch_size": 1024,
    },
    "convnext_t": {
        "model.name": "convnext.ConvNeXt",
        "model.variant": "T",
        "model.drop_path": 0.1,
        "task.label_smoothing": 0.1,
        "augment.ops": DEIT,
        "optimizer.learning_rate": 4e-3,
        "optimizer.warmup_steps": 20 / 300,
        "optimizer.weight_decay": 0.05,
        "train.epochs": 300.0,
        "train.batch_size": 4096,
        "train.ema_decay": 0.9999,
    },
    "vit_b16": {  # arXiv 2010.11929, table 3
        **PATCHES,
        "model.name": "vit.ViT",
        "model.variant": "B/16",
        "model.dropout": 0.1,
        "augment.ops": (*CROP, *NORMALISE),
        "optimizer.learning_rate": 3e-3,
        "optimizer.weight_decay": 0.3,
    },
    "mixer_b16": {  # arXiv 2105.01601, section 3 and appendix B; RandAugment has magnitude 15 there, 10 at most here
        **PATCHES,
        "model.name": "mixer.Mixer",
        "model.variant": "B/16",
        "model.drop_path": 0.1,
        "augment.ops": (*CROP, "rand_augment(num_ops=2, magnitude=10)", "mixup(alpha=0.5)", *NORMALISE),
        "optimizer.learning_rate": 1e-3,
        "optimizer.schedule": "linear",
        "optimizer.weight_decay": 0.1,
    },
    "gmlp_s": {  # arXiv 2105.08050, appendix A.1, after DeiT
        **PATCHES,
        "model.name": "gmlp.GMLP",
        "model.variant": "S",
        "task.label_smoothing": 0.1,
        "augment.ops": DEIT,
        "optimizer.learning_rate": 1e-3,
        "optimizer.weight_decay": 0.05,
    },
}


def get_config(arg: str = "resnet50"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.name = "imagenet2012"
    config.data.splits.test = "validation"
    config.data.preprocess = ("keep('image', 'label')", "resize(256, 256)")
    config.data.workers = 16
    config.train.dtype = "bfloat16"
    config.eval.every = 0.0
    config.checkpoint.every = 0.02
    return variant(config, VARIANTS, arg)
