"""Text by recurrent networks:
    python train.py --config=configs/text.py:shakespeare --workdir=runs/shakespeare --data_dir=DIR

shakespeare: characters of tiny_shakespeare, truncated back-propagation with the state carried from window to window;
write with `python predict.py --workdir=runs/shakespeare --prompt="ROMEO:" --temperature=0.7`.
clinc_oos (150 intents and out of scope), ag_news (4 topics), imdb (sentiment): words, a bidirectional network, the mean
of its outputs. truecasing (capitals to put back), conll2003 (parts of speech), conll2003_names (persons, places and
others, scored by the F1 of whole names): a class for every word, a bidirectional network over byte pairs. Another cell:
--config.model.cell=layers.recurrent.GRU

One's own, in a table with a column `text` and a target, or `words` ("the dog runs") and `tags` ("DET NOUN VERB"):
    python train.py --config=configs/text.py:class --workdir=runs/mine --config.data.name=csv:F --config.data.target=C
    python train.py --config=configs/text.py:tags --workdir=runs/mine --config.data.name=csv:F
    (where tags are of spans, "O B-PER I-PER": --config.task.name=tagging.SpanTagging)

Test split, seed 0 or mean (range) of seeds 0 to 2, one CPU core, another recipe on the other, jax 0.10.2:
    shakespeare  2.27 bits a character (validation 2.09), 18 min; Kneser-Ney 7-grams 2.28 (benchmarks.baselines)
        GRU      2.26 bits (validation 2.07), 17 min
    truecasing   accuracy of words 93.6% (93.6-93.7), 2 min; the commonest case of each word 88.2%
    ag_news      accuracy 86.3% (85.8-86.7), 2 min; TF-IDF and logistic regression 87.8%
    clinc_oos    accuracy 90.5% (90.3-90.9), 2 min; TF-IDF and logistic regression 91.1%
    imdb, conll2003, conll2003_names: not run here, only on generated data of their shape.
"""

from core.errors import UserError, nearest
from training.config import default


def get_config(name: str = "shakespeare"):
    """Returns the config for one of SETS."""
    if name not in SETS:
        raise UserError(f"configs/text.py:{name}: {nearest(name, SETS)}")
    recipe, data, labels, epochs = SETS[name]
    config = default()
    config.data.name, config.train.epochs = data, epochs
    config.data.splits.validation = "validation"
    config.data.text = ("text",)
    config.optimizer.clip_norm = 1.0
    config.train.batch_size = 64
    config.checkpoint.best = "-validation/loss"
    recipe(config, labels)
    if name == "imdb":
        config.data.splits.update(train="train[:90%]", validation="train[90%:]")
        config.data.max_length = 400
    elif data == "conll2003":
        config.data.splits.validation = "dev"
    elif not data:  # one file, of any size
        config.data.splits = {"train": "train[:80%]", "validation": "train[80%:90%]", "test": "train[90%:]"}
        config.optimizer.warmup_steps, config.eval.every = 0, 20
    return config


def language_model(config, _):
    config.data.tokenizer = "characters()"
    config.data.window, config.data.eval_window = 100, 1_000  # evaluation begins each window without memory
    config.data.order = "continuous"
    config.task.name = "sequence.TokenClassification"
    config.task.inputs = ("tokens",)
    config.model.name = "rnn.RecurrentNetwork"
    config.model.cell = "layers.recurrent.LSTM"
    config.model.widths = (384,)
    config.model.embedding_width = 64
    config.model.dropout = 0.3
    config.model.stateful, config.model.forget = True, 0.05
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup_steps = 100
    config.eval.every, config.eval.batch_size = 300, 8


def classifier(config, target):
    config.data.target = target
    config.data.tokenizer = "words(size=10000, lowercase=True)"
    config.data.max_length = 128
    config.task.inputs = ("text", "text_lengths")
    config.model.name = "rnn.RecurrentClassifier"
    config.model.pooling = "mean"
    config.model.variational = True  # drops features of the embeddings, too
    bidirectional(config)


def tagger(config, tags):
    words, config.data.tags = tags
    config.data.text = (words,)
    config.data.tokenizer = "bpe(size=4000)"
    config.task.name = "sequence.TokenClassification"
    config.task.inputs, config.task.target = (words, f"{words}_lengths"), config.data.tags
    config.model.name = "rnn.RecurrentNetwork"
    config.checkpoint.best = "validation/accuracy"
    bidirectional(config)


def span_tagger(config, tags):
    tagger(config, tags)
    config.task.name = "tagging.SpanTagging"
    config.checkpoint.best = "validation/f1"


def bidirectional(config):
    config.data.buckets = 6
    config.model.cell = "layers.recurrent.LSTM"
    config.model.widths = (128,)
    config.model.embedding_width = 128
    config.model.bidirectional = True
    config.model.dropout = 0.5
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 100
    config.eval.every, config.eval.batch_size = 100, 256


# argument -> (recipe, data set, key of the labels, epochs)
SETS = {
    "shakespeare": (language_model, "tiny_shakespeare", None, 16.0),
    "clinc_oos": (classifier, "clinc_oos", "intent_name", 20.0),
    "ag_news": (classifier, "ag_news_topics", "label", 10.0),
    "imdb": (classifier, "imdb_reviews", "label", 5.0),
    "truecasing": (tagger, "truecasing", ("words", "case"), 10.0),
    "conll2003": (tagger, "conll2003", ("tokens", "pos"), 10.0),
    "conll2003_names": (span_tagger, "conll2003", ("tokens", "ner"), 10.0),
    "class": (classifier, "", "", 20.0),
    "tags": (tagger, "", ("words", "tags"), 20.0),
}
