"""Convolutions in space and time against frame by frame (Tran et al. 2018):
    python -m experiments.run --config=experiments/motion.py:cpu

Motions of a digit that only the order of the frames tells, by networks of the same depth and width. The paper has the
actions of Kinetics.
"""

from configs import video
from experiments.engine.experiment import Claim, Paper, Scale, experiment

ROWS = {
    "R3D": {},
    "R2+1D": {"model.block": "video_resnet.FactorisedBlock", "model.stem_midplanes": 6},
    "MC2": {"model.temporal": (True, False)},
    "f-R2D": {"model.temporal": (False,)},
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/accuracy",
        rows=ROWS,
        scales={"cpu": Scale(base=base(), minutes=10.0)},
        paper=Paper(
            title="A Closer Look at Spatiotemporal Convolutions for Action Recognition",
            arxiv="1711.11248",
            table="Table 2",
            metric="accuracy of clips of 8 frames of Kinetics in %",
            values={"R3D": 49.4, "R2+1D": 52.8, "MC2": 50.2, "f-R2D": 48.1},
        ),
        claims=(
            Claim("R3D", "f-R2D", "Convolutions in time see what single frames do not show.", 0.5),
            Claim("R2+1D", "f-R2D", "So do factorised ones.", 0.5),
            Claim("R2+1D", "R3D", "Factorised ones are worse by at most 0.02 (in the paper they are better).", -0.02),
            Claim("R3D", "MC2", "Time in all groups is better than in the stem alone (the paper: worse)."),
        ),
    )


def base():
    """Returns the recipe, shorter."""
    config = video.get_config("moving_digits")
    config.train.epochs = 5.0
    return config
