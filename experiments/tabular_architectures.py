"""Dense networks, a ResNet and FT-Transformer on tables (Gorishniy 2021):
    python -m experiments.run --config=experiments/tabular_architectures.py:cpu --data_dir=DIR

The quality of white wines; the paper's tables are larger. At the small scale the FT-Transformer is the authors' default
with one block, at the paper's scale that with three. The rows "piecewise" encode each number piecewise linearly
(Gorishniy 2022, arXiv 2203.05556). The published values are those of tuned networks on California housing.
"""

from configs import tabular
from experiments.engine.experiment import Claim, Paper, Scale, experiment

MLP = {"model.name": "mlp.MLP", "model.widths": (192, 192, 192), "model.dropout": 0.15}
FT = {"model.name": "ft_transformer.FTTransformer", "optimizer.weight_decay": 1e-5}
PIECEWISE = {"data.preprocess": ("features(bins=16)",)}
ROWS = {
    "mlp": MLP,
    "mlp_piecewise": MLP | PIECEWISE,
    "resnet": {},
    "resnet_piecewise": PIECEWISE,
    "ft_transformer": FT,
    "ft_transformer_first_norm": FT | {"model.first_norm": "layers.norm.layer_norm"},
    "ft_transformer_piecewise": FT | PIECEWISE,
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    small = {row: fields | {"model.variant": "1 block"} if "ft_" in row else fields for row, fields in ROWS.items()}
    return experiment(
        arg,
        metric="-test/rmse",
        rows=ROWS if arg.startswith("full") else small,
        scales={"cpu": Scale(base=wines(20.0), minutes=10.0), "full": Scale(base=wines(100.0), seeds=15)},
        paper=Paper(
            title="Revisiting Deep Learning Models for Tabular Data",
            arxiv="2106.11959",
            table="Table 2, from the authors' records of 15 seeds",
            metric="RMSE on California housing",
            values={"mlp": 0.4985, "resnet": 0.4856, "ft_transformer": 0.4591},
        ),
        claims=(
            Claim("resnet", "mlp", "The ResNet is better than the multi-layer perceptron."),
            Claim("ft_transformer", "mlp", "FT-Transformer is better than the multi-layer perceptron."),
            Claim("ft_transformer", "resnet", "FT-Transformer is better than the ResNet."),
            Claim("ft_transformer", "ft_transformer_first_norm", "A norm before the first block makes it worse."),
            Claim("mlp_piecewise", "mlp", "The perceptron gains from piecewise-linear encodings (2203.05556)."),
            Claim("ft_transformer_piecewise", "ft_transformer", "So does FT-Transformer (2203.05556)."),
        ),
    )


def wines(epochs: float):
    """Returns the recipe of the white wines, which keeps the best evaluation."""
    config = tabular.get_config("wine_quality")
    config.train.epochs = epochs
    config.eval.every = 0.05
    config.checkpoint.every = 0.5
    return config
