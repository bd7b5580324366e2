"""Schemes of masking (Devlin 2019, appendix C.2): python -m experiments.run --config=experiments/bert_masking.py:cpu \\
        --data_dir=DIR

A small encoder is pretrained on the masked tokens of news items, and fine-tuned on their topics. The chosen tokens
become the mask token, a random token, or stay; the last row masks complete words. The paper has BERT-base and MNLI.
"""

from experiments import bert_labels
from experiments.engine.experiment import Claim, Paper, Scale, experiment

SCHEMES = {  # mask, stay, random
    "80-10-10": "mask_tokens()",
    "100-0-0": "mask_tokens(mask=1.0, random=0.0)",
    "0-0-100": "mask_tokens(mask=0.0, random=1.0)",
    "words": "mask_tokens(unit='word')",
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    start = bert_labels.pretraining() | {"train.steps": 1000}
    pretrained = {f"pretrain-{scheme}": start | {"augment.ops": (op,)} for scheme, op in SCHEMES.items()}
    return experiment(
        arg,
        metric="test/accuracy",
        rows=pretrained | {scheme: {} for scheme in SCHEMES},
        starts={scheme: f"pretrain-{scheme}" for scheme in SCHEMES},
        scales={
            "cpu": Scale(base=bert_labels.base("tiny", 300), minutes=10.0),
            "full": Scale(base=bert_labels.base("mini", 2000)),
        },
        paper=Paper(
            title="BERT",
            arxiv="1810.04805",
            table="Table 8, MNLI, fine-tuned; whole words: github.com/google-research/bert, BERT-large on SQuAD",
            metric="accuracy on MNLI in %",
            values={"80-10-10": 84.2, "100-0-0": 84.3, "0-0-100": 83.6},
        ),
        claims=(
            Claim("100-0-0", "80-10-10", "Fine-tuning hardly depends on the scheme: masks alone, 0.01 at most.", -0.01),
            Claim("80-10-10", "0-0-100", "Random tokens alone are worse."),
            Claim("words", "80-10-10", "Masking complete words is better."),
        ),
    )
