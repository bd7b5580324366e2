"""Detection by DETR (Carion 2020): python train.py --config=configs/detection.py --workdir=runs/shapes_boxes

`shapes`: drawn pictures of one to four shapes. `bccd`: cells in 364 microscopic images of blood (--data_dir=DIR with
the prepared set). Boxes of your own, in COCO's format, by config alone:
    python train.py --config=configs/detection.py:coco --workdir=runs/mine --config.data.name=coco:FILE.json
A tenth of the file's images is for validation and a tenth for the test. Grey images need
"--config.augment.ops=('flip()', 'normalise()')".
Start the backbone from a run that classifies images with the same network: --config.init_from=RUN, such as
    python train.py --config=configs/images.py:cmaterdb --workdir=RUN --config.model.name=resnet.ResNet \\
        --config.model.block=resnet.BasicBlock "--config.model.blocks=(1,1)" --config.model.width=32
`coco` is the published network; its 300 epochs need accelerators. Boxes of an image:
    python predict.py --workdir=runs/shapes_boxes IMAGE.png
Published weights, a folder of transformers' DetrForObjectDetection such as that of facebook/detr-resnet-50:
    python predict.py --init_from=hf:FOLDER --config=configs/detection.py:coco IMAGE.png
`coco` fits images of any proportions into a square of 800 pixels, and the network does not read the padding. The
published network's images had a short side of 800 pixels: for a picture of 640 x 480 pixels add
    "--set=data.preprocess=('letterbox(800, 1067)',)"

shapes: AP50 94.2%, AP 68.2% of the test split, seed 0, in 4 min on an NVIDIA H200 beside three other runs.
bccd from the backbone above (98.8% of the digits): AP50 29.5%, seed 0, 23 min on one core beside other work; with
"--config.augment.ops=('flip()', 'normalise()')" 26.4%. Detectors pretrained on COCO have 57.9% (YOLOS-small,
DunnBC22) and 90.2% (YOLOv5s, keremberke; both on Hugging Face, on another split of the same images).
bccd's AP50 on larger canvases, whose sides are these times the image's (python -m benchmarks.canvas --workdir=RUN):
                                           1   1.25    1.5      2
    inputs (image, image_region)       29.5%  27.5%  27.5%  28.1%
    inputs (image,)                    29.5%  15.4%   4.5%   0.2%
"""

from training.config import default
from training.overrides import variant

SMALL = {
    "model.backbone": "resnet.ResNet(block=resnet.BasicBlock, blocks=(1, 1), width=32)",
    "model.depth": 2,
    "model.decoder_depth": 3,
    "model.width": 96,
    "model.heads": 4,
    "model.mlp_width": 256,
    "model.order": "pre",
    "model.dropout": 0.0,
    "model.attention_dropout": 0.0,
    "model.activation_dropout": 0.0,
    "optimizer.clip_norm": 1.0,
    "optimizer.learning_rate": 7e-4,
    "train.batch_size": 16,
}
VARIANTS = {
    "shapes": SMALL | {"data.name": "shapes", "task.queries": 10, "train.steps": 4_000},
    "bccd": SMALL
    | {
        "data.name": "bccd",
        "data.preprocess": ("resize(120, 160)",),
        "data.splits.validation": "validation",
        "augment.ops": (
            "scale_jitter(low=0.8, high=1.6)",
            "flip(vertical=True)",
            "color_jitter(0.2, 0.2, 0.2, 0.02)",
            "normalise()",
        ),
        "task.queries": 40,
        "train.steps": 3_000,
    },
    "coco": {  # appendix A.4; the queries and the published network's sizes are the defaults
        "data.name": "coco:train.json",
        "data.preprocess": ("letterbox(800, 800)",),
        "data.splits.train": "train[:80%]",
        "data.splits.validation": "train[80%:90%]",
        "data.splits.test": "train[90%:]",
        "task.inputs": ("image", "image_region"),
        "task.crowd": "objects/is_crowd",
        "augment.ops": ("flip()", "normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))"),
        "optimizer.learning_rate": 1e-4,
        "optimizer.schedule": "step(boundaries=(0.667,), factor=0.1)",
        "optimizer.lr_multipliers": (("image_network/.*", 0.1),),
        "optimizer.clip_norm": 0.1,
        "train.epochs": 300.0,
        "train.batch_size": 64,
    },
}


def get_config(arg: str = "shapes"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.model.name = "detr.DETR"
    config.task.name = "detection.Detection"
    config.data.splits.validation = "validation"
    config.augment.ops = ("flip()", "normalise()")
    config.optimizer.warmup_steps = 0.05
    config.optimizer.weight_decay = 1e-4
    config.eval.every = 0.25
    config.eval.batch_size = 50
    config.checkpoint.every = 0.25
    config.checkpoint.best = "validation/ap"
    return variant(config, VARIANTS, arg)
