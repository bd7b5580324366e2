"""BERT: pretrain an encoder on plain text, then fine-tune it.
    python train.py --config=configs/bert.py:pretrain --workdir=runs/bert --data_dir=DIR
    python train.py --config=configs/bert.py:finetune,ag_news --workdir=runs/news --data_dir=DIR \\
        --config.init_from=runs/bert

BERT-mini; for another size, --config.model.variant=small in both commands. The tokenizer comes along with init_from; a
run without it trains its own.

pretrain: masked tokens and next passages of Wikipedia, WikiText-2's validation and test articles.
pretrain,ag_news, pretrain,clinc_oos: masked tokens of that set's training texts. With --config.init_from=runs/bert they
continue the run above. pretrain,text: your own text, --config.data.name=text:FILE.txt
finetune,ag_news, finetune,clinc_oos: classes of texts. finetune,xquad: answers to questions, parts of a text.
finetune,class, finetune,pair: your own table with a column `text`, or two columns `first` and `second`:
--config.data.name=csv:FILE.csv --config.data.target=COLUMN
finetune,tags: your own table with the columns `words` and `tags`, separated by spaces.

Fill a mask, or ask a question about a text, with a table of questions and contexts:
    echo "The [MASK] of France is Paris." | python predict.py --workdir=runs/bert
    python predict.py --workdir=runs/answers QUESTIONS.csv

Published weights of BERT, RoBERTa or DistilBERT start a run by --config.init_from=hf:FOLDER, with their sizes and
tokenizer and this recipe's head. They predict untrained where they have that head (`architectures` in config.json):
    python predict.py --init_from=hf:FOLDER --config=configs/bert.py:pretrain,text < LINES
    python predict.py --init_from=hf:FOLDER --config=configs/bert.py:finetune,xquad QUESTIONS.csv

pretrain, seed 0: 4.18 nats per masked token of the test articles, next passages right in 64.1%; 22 min on one core
beside other work. Test accuracy, seed 0 (TF-IDF and logistic regression 91.1% and 87.8%); the first two on a GPU:
                        without  from pretrain  from pretrain,DATA that continues it (25 min each)
    finetune,clinc_oos    89.8%          90.4%   91.5%
    finetune,ag_news      85.7%          81.7%   85.1%: pretraining on so few texts does not help
finetune,xquad from pretrain: exact match 2.9%, F1 6.6% (seed 0, 17 min): 970 questions do not teach it to answer. The
sentence whose words are closest to the question's has 0% and 14.8% (benchmarks/baselines.py).
"""

from training.config import default
from training.overrides import variant

PRETRAIN = {
    "model.head": "bert.MaskedTokens",
    "data.preprocess": ("tokenize('text', start(wordpiece(8000)), special=False)", "passages('text', 64)"),
    "augment.ops": ("mask_tokens()",),
    "task.name": "masked.MaskedTokens",
    "optimizer.learning_rate": 1e-3,
    "train.steps": 3000,
    "eval.every": 0.1,
}
FINETUNE = {
    "model.head": "bert.TextClassifier",
    "data.preprocess": ("tokenize('text', start(wordpiece(8000)), max_length=128)",),
    "task.name": "classification.Classification",
    "task.inputs": ("text", "text_lengths"),
    "optimizer.learning_rate": 3e-4,
    "train.epochs": 10.0,
    "eval.every": 0.1,
    "checkpoint.best": "-validation/loss",
}
ONE_SPLIT = {  # one file
    "data.name": "",
    "data.splits.train": "train[:80%]",
    "data.splits.validation": "train[80%:90%]",
    "data.splits.test": "train[90%:]",
}
AG_NEWS = {"data.name": "ag_news_topics"}
CLINC = {"data.name": "clinc_oos"}
VARIANTS = {
    "pretrain": {
        **PRETRAIN,
        "data.name": "wikitext_small",
        "data.preprocess": (
            "tokenize('text', start(wordpiece(8000)), special=False)",
            "passages('text', 64, pairs=True)",
        ),
        "model.head": "bert.Pretraining",
        "task.name": "masked.Pretraining",
    },
    "pretrain,ag_news": {**PRETRAIN, **AG_NEWS},
    "pretrain,clinc_oos": {**PRETRAIN, **CLINC},
    "pretrain,text": {
        **PRETRAIN,
        "data.name": "",
        "data.splits.train": "train[:90%]",
        "data.splits.validation": "train[90%:]",
        "data.splits.test": "",
    },
    "finetune,ag_news": {**FINETUNE, **AG_NEWS, "data.target": "label"},
    "finetune,clinc_oos": {**FINETUNE, **CLINC, "data.target": "intent_name"},
    "finetune,class": {**FINETUNE, **ONE_SPLIT},
    "finetune,pair": {
        **FINETUNE,
        **ONE_SPLIT,
        "data.preprocess": ("pair('first', 'second', start(wordpiece(8000)), max_length=128)",),
        "task.inputs": ("tokens", "tokens_lengths", "segments"),
    },
    "finetune,tags": {
        **FINETUNE,
        **ONE_SPLIT,
        "data.preprocess": ("tokenize_words('words', 'tags', start(wordpiece(8000)))",),
        "model.head": "bert.TokenClassifier",
        "task.name": "sequence.TokenClassification",
        "task.inputs": ("words", "words_lengths"),
        "task.target": "tags",
    },
    "finetune,xquad": {
        **FINETUNE,
        "data.name": "xquad_articles",
        "data.preprocess": (
            "pair('question', 'context', start(wordpiece(8000)), max_length=320, answer='answer', "
            "answer_start='answer_start')",
        ),
        "model.head": "bert.AnswerSpan",
        "task.name": "answering.SpanAnswer",
        "task.inputs": ("tokens", "tokens_lengths", "segments"),
    },
}


def get_config(arg: str = "pretrain"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.splits.validation = "validation"
    config.model.name = "bert.BERT"
    config.model.variant = "mini"
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_steps = 0.1
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.train.batch_size = 32
    config.eval.batch_size = 64
    return variant(config, VARIANTS, arg)
