"""Text by recurrent networks, and classes of texts by bags of n-grams:
    python train.py --config=configs/text.py:shakespeare --workdir=runs/shakespeare --data_dir=DIR

shakespeare: characters of tiny_shakespeare, truncated back-propagation with the state carried from window to window;
generate with `python predict.py --workdir=runs/shakespeare --prompt="ROMEO:" --temperature=0.7`.
clinc_oos (150 intents), ag_news (4 topics), imdb (sentiment): a linear classifier of TF-IDF weights of n-grams of words
and characters; ag_news_recurrent, clinc_oos_recurrent: the mean of a bidirectional network's outputs over
words; --config.model.name=textcnn.TextCNN puts convolutions in its place.
truecasing (restoring capitals), conll2003 (parts of speech), conll2003_names (persons, places and others, scored by the
F1 of whole names): a class for every word, by a bidirectional network over byte pairs. Another cell:
--config.model.cell=layers.recurrent.GRU

Your own table, with a column `text` and a target, or `words` ("the dog runs") and `tags` ("DET NOUN VERB"):
    python train.py --config=configs/text.py:class --workdir=runs/mine --config.data.name=csv:F --config.data.target=C
    python train.py --config=configs/text.py:tags --workdir=runs/mine --config.data.name=csv:F
    (for tags of spans, "O B-PER I-PER": --config.task.name=tagging.SpanTagging)

Test split, seed 0 or mean (range) of seeds 0 to 2, one CPU core, another recipe on the other, jax 0.10.2:
    shakespeare  2.27 bits per character (validation 2.09), 18 min; Kneser-Ney 7-grams 2.28 (benchmarks.baselines)
        GRU      2.26 bits (validation 2.07), 17 min
    truecasing   accuracy of words 93.6% (93.6-93.7), 2 min; the most common case of each word 88.2%
    ag_news      accuracy 89.0% (88.8-89.2), 1 min; TF-IDF of words and pairs of words, logistic regression: 88.2%
        recurrent  accuracy 86.3% (85.8-86.7), 2 min; TextCNN 87.7% (87.6-87.9), 2 min
    clinc_oos    accuracy 92.5% (92.3-92.8), 11 min beside other work; TF-IDF and logistic regression: 91.1%
        recurrent  accuracy 90.5% (90.3-90.9), 2 min; TextCNN 92.4% (92.3-92.6), 3 min
    imdb, conll2003, conll2003_names: tested on generated data of their shape only.
"""

from training.config import default
from training.overrides import variant

ONE_SPLIT = {  # one file, of any size
    "data.splits.train": "train[:80%]",
    "data.splits.validation": "train[80%:90%]",
    "data.splits.test": "train[90%:]",
}
LANGUAGE_MODEL = {
    "data.preprocess": (
        "tokenize('text', characters(), special=False)",
        "windows('text', 100, evaluation=1000)",  # evaluation starts each window without memory
    ),
    "data.order": "continuous",
    "data.buckets": 0,
    "task.name": "sequence.TokenClassification",
    "task.inputs": ("tokens",),
    "model.name": "rnn.RecurrentNetwork",
    "model.cell": "layers.recurrent.LSTM",
    "model.widths": (384,),
    "model.embedding_width": 64,
    "model.dropout": 0.3,
    "model.stateful": True,
    "model.forget": 0.05,
    "optimizer.learning_rate": 3e-3,
    "eval.batch_size": 8,
}
BIDIRECTIONAL = {
    "model.cell": "layers.recurrent.LSTM",
    "model.widths": (128,),
    "model.embedding_width": 128,
    "model.bidirectional": True,
    "model.dropout": 0.5,
}
CLASSIFIER = {  # convex; on a few thousand texts it is ahead of the networks here
    "data.preprocess": ("ngrams('text', words=(1, 2), characters=(2, 5))",),
    "task.inputs": ("text", "text_mask"),
    "model.name": "ngrams.BagOfNgrams",
    "optimizer.learning_rate": 0.03,
    "optimizer.warmup_steps": 0.05,
    "optimizer.weight_decay": 0.1,
    "train.epochs": 10.0,
    "eval.every": 0.1,
}
RECURRENT = {
    "data.preprocess": ("tokenize('text', words(size=10000, lowercase=True), max_length=128)",),
    "task.inputs": ("text", "text_lengths"),
    "model.name": "rnn.RecurrentClassifier",
    "model.pooling": "mean",
    "model.variational": True,  # drops features of the embeddings, too
    **BIDIRECTIONAL,
}
CLINC_OOS = {"data.name": "clinc_oos", "data.target": "intent_name"}
AG_NEWS = {"data.name": "ag_news_topics", "data.target": "label"}
TAGGER = {
    "task.name": "sequence.TokenClassification",
    "task.inputs": ("words", "words_lengths"),
    "model.name": "rnn.RecurrentNetwork",
    "checkpoint.best": "validation/accuracy",
    **BIDIRECTIONAL,
}
CONLL = {
    **TAGGER,
    "data.name": "conll2003",
    "data.splits.validation": "dev",
    "task.inputs": ("tokens", "tokens_lengths"),
    "optimizer.warmup_steps": 0.0454,
    "train.epochs": 10.0,
    "eval.every": 0.0454,
}
VARIANTS = {
    "shakespeare": {
        **LANGUAGE_MODEL,
        "data.name": "tiny_shakespeare",
        "optimizer.warmup_steps": 0.04,
        "train.epochs": 16.0,
        "eval.every": 0.1194,
    },
    "clinc_oos": {**CLASSIFIER, **CLINC_OOS},
    "clinc_oos_recurrent": {
        **RECURRENT,
        **CLINC_OOS,
        "optimizer.warmup_steps": 0.0213,
        "eval.every": 0.0213,
    },
    "ag_news": {**CLASSIFIER, **AG_NEWS},
    "ag_news_recurrent": {
        **RECURRENT,
        **AG_NEWS,
        "optimizer.warmup_steps": 0.114,
        "train.epochs": 10.0,
        "eval.every": 0.114,
    },
    "imdb": {
        **CLASSIFIER,
        "data.name": "imdb_reviews",
        "data.splits.train": "train[:90%]",
        "data.splits.validation": "train[90%:]",
        "data.target": "label",
    },
    "truecasing": {
        **TAGGER,
        "data.name": "truecasing",
        "data.preprocess": ("tokenize_words('words', 'case', bpe(size=4000))",),
        "task.target": "case",
        "optimizer.warmup_steps": 0.087,
        "train.epochs": 10.0,
        "eval.every": 0.087,
    },
    "conll2003": {
        **CONLL,
        "data.preprocess": ("tokenize_words('tokens', 'pos', bpe(size=4000))",),
        "task.target": "pos",
    },
    "conll2003_names": {
        **CONLL,
        "data.preprocess": ("tokenize_words('tokens', 'ner', bpe(size=4000))",),
        "task.name": "tagging.SpanTagging",
        "task.target": "ner",
        "checkpoint.best": "validation/f1",
    },
    "class": {**CLASSIFIER, **ONE_SPLIT, "data.name": ""},
    "tags": {
        **TAGGER,
        **ONE_SPLIT,
        "optimizer.warmup_steps": 0.0,
        "data.name": "",
        "data.preprocess": ("tokenize_words('words', 'tags', bpe(size=4000))",),
        "task.target": "tags",
    },
}


def get_config(arg: str = "shakespeare"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.splits.validation = "validation"
    config.data.buckets = 6
    config.optimizer.learning_rate = 2e-3
    config.optimizer.clip_norm = 1.0
    config.train.epochs = 20.0
    config.train.batch_size = 64
    config.eval.every = 0.05
    config.eval.batch_size = 256
    config.checkpoint.best = "-validation/loss"
    return variant(config, VARIANTS, arg)
