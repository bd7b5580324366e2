"""The Transformer's ablation that survives scaling down (Vaswani 2017):
    python -m experiments.run --config=experiments/transformer_ablation.py:cpu --data_dir=DIR

German to English on the first 4,000 pairs of Multi30k with two layers of 64; the paper's is English to German on WMT
2014 with six of 512. The metric is the perplexity per token, without label smoothing in the metric.
"""

from configs import transformer
from experiments.engine.experiment import Claim, Paper, Scale, experiment

ROWS = {
    "base": {},
    "heads_1": {"model.heads": 1},
    "key_width_4": {"model.key_width": 4, "model.value_width": 16},
    "depth_1": {"model.depth": 1},
    "width_32": {"model.width": 32, "model.mlp_width": 128},
    "mlp_64": {"model.mlp_width": 64},
    "no_dropout": {"model.dropout": 0.0},
    "no_smoothing": {"task.label_smoothing": 0.0},
    "no_positions": {"model.positions": "layers.positions.Positions"},
    "learned": {"model.positions": "layers.positions.Learned", "model.context": 64},
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="-test/perplexity",
        rows=ROWS,
        scales={"cpu": Scale(base=small(600), minutes=10.0), "full": Scale(base=transformer.get_config(), seeds=3)},
        paper=Paper(
            title="Attention Is All You Need",
            arxiv="1706.03762",
            table="Table 3: rows A (1 head), B (d_k = 16), C (N = 2; d_model = 256; d_ff = 1024), D and E",
            metric="perplexity per word piece on newstest2013",
            values={
                "base": 4.92,
                "heads_1": 5.29,
                "key_width_4": 5.16,
                "depth_1": 6.11,
                "width_32": 5.75,
                "mlp_64": 5.12,
                "no_dropout": 5.77,
                "no_smoothing": 4.67,
                "learned": 4.92,
            },
        ),
        claims=(
            Claim("base", "no_positions", "Without positions the network is worse."),
            Claim("learned", "base", "Learned positions are worse by at most 5% (row E).", -0.5),
            Claim("base", "heads_1", "One head is worse (row A)."),
            Claim("base", "key_width_4", "A smaller d_k is worse (row B)."),
            Claim("base", "depth_1", "Fewer layers are worse (row C)."),
            Claim("base", "width_32", "A narrower network is worse (row C)."),
            Claim("base", "mlp_64", "Narrower feed-forward layers are worse (row C)."),
            Claim("base", "no_dropout", "Without dropout the network is worse (row D)."),
            Claim("no_smoothing", "base", "Label smoothing hurts perplexity (row D, sec. 5.4)."),
        ),
    )


def small(steps: int):
    """Returns the recipe for a small network and few pairs, evaluated at the end."""
    config = transformer.get_config()
    config.data.splits.train = "train[:4000]"
    config.data.splits.test = "test_2016[:500]"
    config.data.preprocess = ("tokenize(('source', 'target'), bpe(size=1000), shared=True, max_length=40)",)
    config.data.buckets = 2
    config.task.beams = 1
    config.task.length_penalty = 0.6
    config.task.max_length = 40
    config.model.depth = 2
    config.model.width = 64
    config.model.dropout = 0.1
    config.model.order = "post"  # the paper's
    config.optimizer.learning_rate = 5e-3
    config.optimizer.schedule = "rsqrt(timescale=200)"
    config.optimizer.warmup_steps = 200.0
    config.train.steps = steps
    config.train.batch_size = 64
    config.train.batch_tokens = 0
    config.train.ema_decay = 0.0
    config.eval.every = 0.0
    config.eval.batch_size = 250
    config.checkpoint.best = ""
    return config
