"""Captions of pictures: python train.py --config=configs/captions.py --workdir=runs/captions

Show, Attend and Tell (Xu 2015, arXiv 1502.03044) on `scenes`, drawn pictures of shapes; its test split has combinations
of colour and shape that the training split lacks. `nlvr` (--data_dir=DIR) has a thousand pictures with sentences
written by people; half of the pictures are for training. `scenes_transformer` and `nlvr_transformer`: by a Transformer.
Caption pictures with
    python predict.py --workdir=runs/captions --attention=attention.png PICTURE.png
`csv`: captions of your own, a table with the columns image (paths of files) and text, by a Transformer. It also starts
from published weights, a folder of transformers' VisionEncoderDecoderModel of ViT and GPT-2 such as that of
nlpconnect/vit-gpt2-image-captioning (with model.safetensors, which save_pretrained writes), and predicts with them:
    python predict.py --init_from=hf:FOLDER --config=configs/captions.py:csv PICTURE.png

Test BLEU, with three references of scenes and one of nlvr:
    scenes 69.0 (validation, with combinations seen in training: 89.9), Transformer 78.1 (96.8); seed 0, 15 and 11 min
    nlvr 16.2 (15.9-16.4 over seeds 0 to 2), Transformer 11.9 (seed 0); 21 and 9 min
One CPU core, other work on the second, jax 0.10.2; nlvr's seeds 1 and 2 took 2 min on an NVIDIA H200.
"""

from training.config import default
from training.overrides import variant

NLVR = {  # about five hundred pictures with one sentence each
    "data.name": "nlvr",
    "data.splits.train": "train[:90%]",
    "data.splits.validation": "train[90%:]",
    "task.references": "",
    "optimizer.warmup_steps": 0.216,
    "train.epochs": 30.0,
    "train.batch_size": 32,
    "eval.every": 0.108,
}
TRANSFORMER = {
    "model.name": "captioner.Captioner",
    "model.depth": 0,
    "model.decoder_depth": 3,
    "model.width": 128,
    "model.heads": 4,
    "model.mlp_width": 512,
    "model.order": "pre",
    "model.dropout": 0.1,
}
CSV = {
    "data.name": "csv:captions.csv",
    "data.preprocess": ("read_image('image')", "resize(224, 224)", "tokenize('text', start(words(size=10_000)))"),
    "data.splits.train": "train[:90%]",
    "data.splits.validation": "train[90%:]",
    "data.splits.test": "",
    "task.references": "",
    "augment.ops": ("normalise(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))",),
}
VARIANTS = {
    "scenes": {},
    "nlvr": NLVR,
    "scenes_transformer": TRANSFORMER,
    "nlvr_transformer": NLVR | TRANSFORMER,
    "csv": TRANSFORMER | CSV,
}


def get_config(arg: str = "scenes"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.name = "scenes"
    config.data.splits.validation = "validation"
    config.data.preprocess = ("tokenize('text', words(size=1000))",)
    config.task.name = "generation.Generation"
    config.task.inputs = ("image", "text")
    config.task.target = "text"
    config.task.conditions = ("image",)
    config.task.references = "references"
    config.task.beams = 3
    config.model.name = "captioning.ShowAttendTell"
    config.model.width = 192
    config.model.embedding_width = 192
    config.model.dropout = 0.3
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 0.067
    config.optimizer.clip_norm = 1.0
    config.train.epochs = 12.0
    config.train.batch_size = 64
    config.eval.every = 0.1664
    config.eval.batch_size = 100
    config.checkpoint.best = "-validation/loss"
    return variant(config, VARIANTS, arg)
