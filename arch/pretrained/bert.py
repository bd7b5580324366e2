"""BERT, RoBERTa and DistilBERT (`arch.bert.BERT`).

Sources: modeling_bert.py, modeling_roberta.py and modeling_distilbert.py of transformers 5.24, and the configuration
files beside them, whose defaults stand here. Two rates of dropout are not read: RoBERTa's before its pooler, and
DistilBERT's of answers.
"""

import dataclasses

import numpy as np

from arch.pretrained.family import (
    FREE,
    Argument,
    Change,
    Choice,
    Config,
    Family,
    Fields,
    Fixed,
    Key,
    Value,
    Weight,
    class_names,
    dense,
    norm,
    refusal,
    unnamed_classes,
)
from arch.pretrained.gpt import ACTIVATIONS

ATTENTION, FEED_FORWARD = "trunk/block{}/attention", "trunk/block{}/feed_forward"
POOLER, TRANSFORM, HEAD, SPAN = "output/pooler", "output/transform", "output/head", "output/head_span"

HEADS = {  # ending of the class of transformers -> the head; of several classes the first is written
    "ForMaskedLM": "bert.MaskedTokens",
    "ForPreTraining": "bert.Pretraining",
    "ForSequenceClassification": "bert.TextClassifier",
    "ForTokenClassification": "bert.TokenClassifier",
    "ForQuestionAnswering": "bert.AnswerSpan",
    "ForMultipleChoice": "bert.MultipleChoice",
    "Model": "bert.Pooler",
}
CLASSIFIERS = ("bert.TextClassifier", "bert.TokenClassifier")  # heads whose classes config.json names

FRONT = 2  # rows before RoBERTa's first position: its padding has the id 1, and positions count from there
FROM_THIRD_ROW = Change(lambda x: x[FRONT:], lambda x: np.pad(x, ((FRONT, 0), (0, 0))))


def _heads(name: str, lacks: str = "", **others: str) -> dict[str, str]:
    """Returns class of transformers -> head, but for the ending that it lacks and for others."""
    return {f"{name}{ending}": head for ending, head in (HEADS | others).items() if ending != lacks}


@dataclasses.dataclass(frozen=True)
class Head(Choice):
    """The head, by the class that config.json names, and the number of its classes."""

    def read(self, config: Config) -> Fields:
        fields = super().read({**config, self.theirs: (config.get(self.theirs) or [self.default])[0]})
        has_classes = fields[self.ours] in CLASSIFIERS
        return fields | ({"num_classes": len(class_names(config))} if has_classes else {})

    def write(self, fields: Fields) -> Config:
        name = super().write(fields)[self.theirs]
        labels = unnamed_classes(fields["num_classes"]) if self.options[name] in CLASSIFIERS else ()
        names = {"id2label": {str(index): label for index, label in enumerate(labels)}} if labels else {}
        return {self.theirs: [name]} | names


@dataclasses.dataclass(frozen=True)
class Segments(Value):
    """The number of segments; a network without segments is of another type."""

    def read(self, config: Config) -> Fields:
        fields = super().read(config)
        if not fields["segments"]:
            raise refusal(self.theirs, 0, "at least 1")
        return fields


class LaterPositions(Key):
    """RoBERTa's longest text: its table of positions has further rows in front."""

    def read(self, config: Config) -> Fields:
        return {"context": config.get("max_position_embeddings", 512) - FRONT}

    def write(self, fields: Fields) -> Config:
        return {"max_position_embeddings": fields["context"] + FRONT}


def _of(head: str, rows: tuple[Weight, ...]) -> tuple[Weight, ...]:
    """Returns the rows of a checkpoint with this head."""
    return tuple(row._replace(only={"head": head}) for row in rows)


EMBEDDED = (
    Weight("embeddings.word_embeddings.weight", ("embedding/embedding",)),
    *norm("embeddings.LayerNorm", "embedding_norm"),
)
LAYERS = (
    *EMBEDDED,
    Weight("embeddings.token_type_embeddings.weight", ("segment_embedding/embedding",)),
    *dense("encoder.layer.{}.attention.self.query", f"{ATTENTION}/layer/query"),
    *dense("encoder.layer.{}.attention.self.key", f"{ATTENTION}/layer/key"),
    *dense("encoder.layer.{}.attention.self.value", f"{ATTENTION}/layer/value"),
    *dense("encoder.layer.{}.attention.output.dense", f"{ATTENTION}/layer/out"),
    *norm("encoder.layer.{}.attention.output.LayerNorm", f"{ATTENTION}/norm"),
    *dense("encoder.layer.{}.intermediate.dense", f"{FEED_FORWARD}/layer/hidden"),
    *dense("encoder.layer.{}.output.dense", f"{FEED_FORWARD}/layer/out"),
    *norm("encoder.layer.{}.output.LayerNorm", f"{FEED_FORWARD}/norm"),
)
POSITIONS = Weight("embeddings.position_embeddings.weight", ("position_embedding/embedding",))
ANSWERS = dense("qa_outputs", SPAN)

SIZES = (
    Value("hidden_size", ("width",), 768),
    Value("num_hidden_layers", ("depth",), 12),
    Value("num_attention_heads", ("heads",), 12),
    Value("intermediate_size", ("mlp_width",), 3072),
    Value("hidden_dropout_prob", ("dropout",), 0.1),
    Value("attention_probs_dropout_prob", ("attention_dropout",), 0.1),
    Value("classifier_dropout", ("head_dropout",), None),
    Segments("type_vocab_size", ("segments",), 2),
    Argument("layer_norm_eps", "norm", 1e-12, "layers.norm.layer_norm", "epsilon"),
    Fixed("position_embedding_type", "absolute"),
    Fixed("is_decoder", False),
    Fixed("add_cross_attention", False),
    Fixed("tie_word_embeddings", True),
)
MISSING = {
    "mlp_width": lambda fields: 4 * fields["width"],
    "attention_dropout": lambda fields: fields["dropout"],
    "head_dropout": lambda fields: fields["dropout"],
}
COMMON = {
    "model": "bert.BERT",
    "reads": (),
    "missing": MISSING,
    "free": FREE | {"num_classes"},  # written for the heads that have classes
    "of_task": frozenset({"head", "num_classes"}),
}

# RoBERTa comes before BERT, which expresses the same networks, but for texts with another id of padding.
ROBERTA = Family(
    model_type="roberta",
    architecture="RobertaForMaskedLM",
    prefix="roberta.",
    headed=("lm_head.", "classifier.", "qa_outputs."),
    weights=(
        *LAYERS,
        POSITIONS._replace(change=FROM_THIRD_ROW),
        *dense("lm_head.dense", TRANSFORM),
        *norm("lm_head.layer_norm", f"{TRANSFORM}_norm"),
        Weight("lm_head.bias|lm_head.decoder.bias", ("output/head_bias",)),
        *_of("bert.TextClassifier", (*dense("classifier.dense", POOLER), *dense("classifier.out_proj", HEAD))),
        *_of("bert.TokenClassifier", dense("classifier", HEAD)),
        *_of("bert.MultipleChoice", (*dense("pooler.dense", POOLER), *dense("classifier", HEAD))),
        *_of("bert.Pooler", dense("pooler.dense", POOLER)),
        *ANSWERS,
    ),
    keys=(
        *SIZES,
        Value("vocab_size", ("vocab_size",), 50_265),
        LaterPositions(),
        Choice("hidden_act", "activation", "gelu", {"gelu": ACTIVATIONS["gelu"]}),  # its last layers have no other
        Fixed("pad_token_id", FRONT - 1),
        Head("architectures", "head", "RobertaForMaskedLM", _heads("Roberta", lacks="ForPreTraining")),
    ),
    ignored=(r"embeddings\.position_ids", r"lm_head\.decoder\.weight"),
    **COMMON,
)
BERT = Family(
    model_type="bert",
    architecture="BertForMaskedLM",
    prefix="bert.",
    headed=("cls.", "classifier.", "qa_outputs."),
    weights=(
        *LAYERS,
        POSITIONS,
        *dense("pooler.dense", POOLER),
        *dense("cls.predictions.transform.dense", TRANSFORM),
        *norm("cls.predictions.transform.LayerNorm", f"{TRANSFORM}_norm"),
        Weight("cls.predictions.bias|cls.predictions.decoder.bias", ("output/head_bias",)),
        *dense("cls.seq_relationship", "output/head_next"),
        *dense("classifier", HEAD),
        *ANSWERS,
    ),
    keys=(
        *SIZES,
        Value("vocab_size", ("vocab_size",), 30_522),
        Value("max_position_embeddings", ("context",), 512),
        Choice("hidden_act", "activation", "gelu", ACTIVATIONS),
        Head("architectures", "head", "BertForMaskedLM", _heads("Bert")),
    ),
    ignored=(r"embeddings\.position_ids", r"cls\.predictions\.decoder\.weight"),
    **COMMON,
)
DISTILBERT = Family(
    model_type="distilbert",
    architecture="DistilBertForMaskedLM",
    prefix="distilbert.",
    headed=("vocab_", "pre_classifier.", "classifier.", "qa_outputs."),
    weights=(
        *EMBEDDED,
        POSITIONS,
        *dense("transformer.layer.{}.attention.q_lin", f"{ATTENTION}/layer/query"),
        *dense("transformer.layer.{}.attention.k_lin", f"{ATTENTION}/layer/key"),
        *dense("transformer.layer.{}.attention.v_lin", f"{ATTENTION}/layer/value"),
        *dense("transformer.layer.{}.attention.out_lin", f"{ATTENTION}/layer/out"),
        *norm("transformer.layer.{}.sa_layer_norm", f"{ATTENTION}/norm"),
        *dense("transformer.layer.{}.ffn.lin1", f"{FEED_FORWARD}/layer/hidden"),
        *dense("transformer.layer.{}.ffn.lin2", f"{FEED_FORWARD}/layer/out"),
        *norm("transformer.layer.{}.output_layer_norm", f"{FEED_FORWARD}/norm"),
        *dense("vocab_transform", TRANSFORM),
        *norm("vocab_layer_norm", f"{TRANSFORM}_norm"),
        Weight("vocab_projector.bias", ("output/head_bias",)),
        *dense("pre_classifier", POOLER),
        *dense("classifier", HEAD),
        *ANSWERS,
    ),
    keys=(
        Value("vocab_size", ("vocab_size",), 30_522),
        Value("max_position_embeddings", ("context",), 512),
        Value("dim", ("width",), 768),
        Value("n_layers", ("depth",), 6),
        Value("n_heads", ("heads",), 12),
        Value("hidden_dim", ("mlp_width",), 3072),
        Value("dropout", ("dropout",), 0.1),
        Value("attention_dropout", ("attention_dropout",), 0.1),
        Value("seq_classif_dropout", ("head_dropout",), 0.2),
        Choice("activation", "activation", "gelu", ACTIVATIONS),
        Fixed("sinusoidal_pos_embds", False),
        Fixed("tie_word_embeddings", True),
        # the encoder alone has no head
        Head(
            "architectures",
            "head",
            "DistilBertForMaskedLM",
            _heads("DistilBert", lacks="ForPreTraining", Model="bert.MaskedTokens"),
        ),
    ),
    fields={
        "segments": 0,
        "pooled_activation": "nn.relu",
        "norm": "layers.norm.layer_norm(epsilon=1e-12)",
    },
    ignored=(r"embeddings\.position_ids", r"vocab_projector\.weight"),
    **COMMON,
)
