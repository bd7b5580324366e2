"""From ResNet-50 to ConvNeXt step by step (Liu 2022, section 2):
    python -m experiments.run --config=experiments/convnext_ladder.py:cpu --data_dir=DIR

Each row adds one step to the row before; all rows train by the same recipe. The paper's accuracies are those of figure
2, on ImageNet. The small scale has narrow networks of fewer blocks on Bangla digits.
"""

import itertools

from configs import imagenet, images
from experiments.engine.experiment import Claim, Paper, Scale, experiment

STEPS = {  # row -> fields of convnext.ConvNeXt
    "resnet": {
        "depths": (3, 4, 6, 3),
        "width": 256,
        "ratio": 0.25,
        "stem": "resnet",
        "depthwise": False,
        "moved_up": False,
        "kernel": 3,
        "activation": "nn.relu",
        "few_activations": False,
        "few_norms": False,
        "norm": "layers.norm.batch_norm",
        "downsampling": "strided",
    },
    "stage_ratio": {"depths": (3, 3, 9, 3)},
    "patchify": {"stem": "patchify"},
    "depthwise": {"depthwise": True},
    "width": {"width": 384},
    "inverted": {"width": 96, "ratio": 4.0},
    "moved_up": {"moved_up": True},
    "kernel_7": {"kernel": 7},
    "gelu": {"activation": "layers.feedforward.gelu_exact"},
    "few_activations": {"few_activations": True},
    "few_norms": {"few_norms": True},
    "layer_norm": {"norm": "layers.norm.layer_norm"},
    "downsampling": {"downsampling": "separate"},
}
SMALL = {  # the same steps, for a quarter of the width
    "resnet": {"depths": (1, 2, 2, 1), "width": 64},
    "stage_ratio": {"depths": (1, 1, 3, 1)},
    "width": {"width": 96},
    "inverted": {"width": 24},
}
FIGURE_2 = (78.8, 79.4, 79.5, 78.3, 80.5, 80.6, 79.9, 80.6, 80.6, 81.3, 81.4, 81.5, 82.0)


def ladder(*tables: dict[str, dict]) -> dict[str, dict]:
    """Returns row -> all fields of the model: of the row and of those before; later tables win."""
    rows, fields = {}, {}
    for row in tables[0]:
        for table in tables:
            fields |= table.get(row, {})
        rows[row] = dict(fields)
    return rows


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows = ladder(STEPS) if arg.partition(",")[0] == "full" else ladder(STEPS, SMALL)
    return experiment(
        arg,
        metric="test/accuracy",
        rows={row: {f"model.{key}": value for key, value in fields.items()} for row, fields in rows.items()},
        ladder=True,
        scales={"cpu": Scale(base=small(), minutes=10.0), "full": Scale(base=large(), seeds=3)},
        paper=Paper(
            title="A ConvNet for the 2020s",
            arxiv="2201.03545",
            table="Figure 2, top",
            metric="accuracy in % on ImageNet, the mean of 3 seeds",
            values=dict(zip(STEPS, FIGURE_2, strict=True)),
        ),
        claims=tuple(
            Claim(after, before, f"{after} gains over the row before.")
            for before, after in itertools.pairwise(rows)
            if after not in ("depthwise", "moved_up")  # which lose, and save operations
        ),
    )


def small():
    """Returns a short run on 32x32 digits with AdamW."""
    config = images.get_config("cmaterdb")
    config.model.name = "convnext.ConvNeXt"
    del config.model.depth
    config.model.layer_scale = None
    config.optimizer.name = "adamw"
    del config.optimizer.momentum
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 0.1
    config.optimizer.weight_decay = 0.05
    config.optimizer.decay_mask = (".*kernel",)
    config.train.steps = 300
    config.train.batch_size = 64
    config.eval.every = 0.0
    return config


def large():
    """Returns the recipe of ConvNeXt-T for all rows, without layer scale."""
    config = imagenet.get_config("convnext_t")
    del config.model.variant
    config.model.layer_scale = None
    return config
