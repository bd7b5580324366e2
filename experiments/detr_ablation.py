"""Parts of DETR (Carion et al. 2020, section 4.2) on drawn pictures of shapes:
    python -m experiments.run --config=experiments/detr_ablation.py:cpu

Positions: without them the queries cannot tell where a feature is. Matching: greedy instead of optimal. Auxiliary
losses: the last block of the decoder alone is scored. Depth of the decoder: 1 to 3 blocks. The paper removes the
positions from the encoder and the decoder, and keeps sums at the input; its other rows have no counterpart there.
"""

from configs import detection
from experiments.engine.experiment import Claim, Paper, Scale, experiment

ROWS = {
    "complete": {},
    "no-positions": {"model.positions": "detr.NoPlaces"},
    "greedy": {"task.matching": "greedy"},
    "last-block": {"model.auxiliary": False},
    "2-blocks": {"model.decoder_depth": 2},
    "1-block": {"model.decoder_depth": 1},
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/ap50",
        rows=ROWS,
        scales={"cpu": Scale(base=base(2_000), minutes=10.0), "full": Scale(base=base(20_000))},
        paper=Paper(
            title="End-to-End Object Detection with Transformers",
            arxiv="2005.12872",
            table="Table 3",
            metric="AP on COCO",
            values={"complete": 0.406, "no-positions": 0.328},
        ),
        claims=tuple(
            Claim("complete", row, f"The complete network is better than with: {row}.")
            for row in ROWS
            if row != "complete"
        ),
    )


def base(steps: int):
    """Returns the recipe for shapes, evaluated at the end."""
    config = detection.get_config("shapes")
    config.train.steps = steps
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
