"""Language models of the GPT family:
    python train.py --config=configs/gpt.py:shakespeare_cpu --workdir=runs/gpt --data_dir=DIR

shakespeare_cpu, shakespeare: characters of tiny_shakespeare as in nanoGPT (github.com/karpathy/nanoGPT): its
configuration for CPUs (4 layers, 128 wide) and for one GPU (6 layers, 384 wide). Continue a text with
    python predict.py --workdir=runs/gpt --prompt="ROMEO:" --temperature=0.8
gpt2: GPT-2 124M on OpenWebText as in nanoGPT, 480 texts of 1,024 tokens per step. Name files of your own, one text per
line or row, and the tokenizer:
    --config.data.name=jsonl:FILE.jsonl "--config.data.preprocess.tokenize.tokenizer=file('tokenizer.json')"
text: your own text files, byte pairs: --config.data.name=text:FILE.txt
A modern block (RMSNorm, rotary positions, SwiGLU): --config.model.positions=layers.positions.Rotary
    --config.model.norm=layers.norm.rms_norm --config.model.activation=nn.silu --config.model.gated=True

Loss on the validation text, in nats per character, mean (range) of seeds 0 to 2:
    shakespeare_cpu  1.902 (1.895-1.912) on two CPU cores, jax 0.10.2; nanoGPT's own code 1.901 (1.898-1.906)
    shakespeare      1.465 (seed 0) in 4 min on an NVIDIA H200 beside three other runs; nanoGPT's 1.4697
    gpt2: not run
"""

from training.config import default
from training.overrides import variant

NANOGPT = {
    "optimizer.learning_rate": 1e-3,
    "optimizer.b2": 0.99,
    "optimizer.warmup_steps": 0.05,  # 100 steps
}
VARIANTS = {
    "shakespeare_cpu": {
        **NANOGPT,
        "model.variant": "nanoGPT CPU",
        "data.preprocess": (
            "tokenize('text', characters(), special=False)",
            "windows('text', 64, offsets='random')",
        ),
        "train.steps": 2000,
        "train.batch_size": 12,
    },
    "shakespeare": {
        **NANOGPT,
        "model.variant": "nanoGPT character",
        "optimizer.warmup_steps": 0.02,
        "train.steps": 5000,
        "train.batch_size": 64,
        "eval.every": 250.0,
        "checkpoint.best": "-validation/loss",
    },
    "gpt2": {
        "model.variant": "nanoGPT",
        "data.name": "",
        "data.splits.train": "train[:99.95%]",
        "data.splits.validation": "train[99.95%:]",
        "data.preprocess": (
            "tokenize('text', bpe(50257), special=False)",
            "windows('text', 1024, offsets='random', documents=True)",
        ),
        "optimizer.learning_rate": 6e-4,
        "optimizer.b2": 0.95,
        "optimizer.warmup_steps": 2000 / 600_000,
        "train.steps": 600_000,
        "train.batch_size": 480,
        "train.accumulate": 5,
        "eval.every": 1000.0,
        "checkpoint.best": "-validation/loss",
    },
    "text": {
        "model.variant": "nanoGPT character",
        "data.name": "",
        "data.splits.train": "train[:90%]",
        "data.splits.validation": "train[90%:]",
        "data.preprocess": (
            "tokenize('text', bpe(2000), special=False)",
            "windows('text', 128, offsets='random')",
        ),
        "model.context": 128,
        "optimizer.warmup_steps": 0.04,
        "train.epochs": 0.02,
        "train.batch_size": 32,
        "eval.every": 0.05,
        "checkpoint.best": "-validation/loss",
    },
}


def get_config(arg: str = "shakespeare_cpu"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.name = "tiny_shakespeare"
    config.data.splits.validation = "validation+test"  # nanoGPT's validation text, the last tenth
    config.data.splits.test = ""
    config.data.preprocess = (
        "tokenize('text', characters(), special=False)",
        "windows('text', 256, offsets='random')",
    )
    config.task.name = "sequence.TokenClassification"
    config.task.inputs = ("tokens",)
    config.model.name = "gpt.GPT"
    config.optimizer.schedule = "cosine(final=0.1)"
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.eval.every = 0.125
    config.eval.batch_size = 64
    return variant(config, VARIANTS, arg)
