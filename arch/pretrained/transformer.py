"""Marian (`arch.transformer.Transformer`): the translators of OPUS-MT.

Source: modeling_marian.py and configuration_marian.py of transformers 5.24. The fixed sinusoids that old checkpoints
hold are not read; transformers computes them where a checkpoint lacks them.
"""

import dataclasses

from arch.pretrained.family import (
    FREE,
    ROW,
    TRANSPOSED,
    Choice,
    Config,
    Family,
    Fields,
    Fixed,
    Key,
    Value,
    Weight,
    dense,
    norm,
    refusal,
)
from arch.pretrained.gpt import ACTIVATIONS

SIDES = {"encoder": {"self_attention": "self_attn"}}
SIDES["decoder"] = {**SIDES["encoder"], "cross_attention": "encoder_attn"}
PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def side_rows(side: str) -> tuple[Weight, ...]:
    """Returns the rows of the encoder's or decoder's blocks."""
    theirs, ours = f"{side}.layers.{{}}", f"{side}/block{{}}"
    rows = ()
    for name, attention in SIDES[side].items():
        rows += norm(f"{theirs}.{attention}_layer_norm", f"{ours}/{name}/norm")
        for projection, layer in PROJECTIONS.items():
            rows += dense(f"{theirs}.{attention}.{layer}", f"{ours}/{name}/layer/{projection}")
    return (
        *rows,
        *norm(f"{theirs}.final_layer_norm", f"{ours}/feed_forward/norm"),
        *dense(f"{theirs}.fc1", f"{ours}/feed_forward/layer/hidden"),
        *dense(f"{theirs}.fc2", f"{ours}/feed_forward/layer/out"),
    )


class Vocabularies(Key):
    """The sizes of the vocabularies, and whether source, target and head share one embedding."""

    def read(self, config: Config) -> Fields:
        source, shared = config.get("vocab_size", 58_101), config.get("share_encoder_decoder_embeddings", True)
        tied = config.get("tie_word_embeddings", True)
        if shared and not tied:
            raise refusal("tie_word_embeddings", tied, "only True with share_encoder_decoder_embeddings")
        target = source if shared else config.get("decoder_vocab_size") or source
        return {"vocab_size": source, "num_classes": target, "shared": shared, "tied": tied}

    def write(self, fields: Fields) -> Config:
        sizes = {"vocab_size": fields["vocab_size"], "decoder_vocab_size": fields["num_classes"]}
        tying = {"share_encoder_decoder_embeddings": fields["shared"], "tie_word_embeddings": fields["tied"]}
        return sizes | tying


@dataclasses.dataclass(frozen=True)
class OfBothSides(Key):
    """A number of the encoder and one of the decoder, which must be equal."""

    theirs: str
    ours: str
    default: int

    def read(self, config: Config) -> Fields:
        encoder, decoder = (config.get(f"{side}_{self.theirs}", self.default) for side in SIDES)
        if encoder != decoder:
            raise refusal(f"decoder_{self.theirs}", decoder, f"only that of the encoder, {encoder}")
        return {self.ours: encoder}

    def write(self, fields: Fields) -> Config:
        return {f"{side}_{self.theirs}": fields[self.ours] for side in SIDES}


MARIAN = Family(
    model_type="marian",
    architecture="MarianMTModel",
    model="transformer.Transformer",
    prefix="model.",
    reads=("source", "target"),
    headed=("lm_head.weight", "final_logits_bias"),
    weights=(
        Weight("shared.weight|decoder.embed_tokens.weight", ("target_embedding/embedding",), only={"shared": True}),
        Weight("decoder.embed_tokens.weight", ("target_embedding/embedding",), only={"shared": False}),
        Weight("encoder.embed_tokens.weight", ("source_embedding/embedding",), only={"shared": False}),
        *side_rows("encoder"),
        *side_rows("decoder"),
        Weight("lm_head.weight", ("head/kernel",), TRANSPOSED, {"tied": False}),
        Weight("final_logits_bias", ("head/bias",), ROW, {"tied": False}),
        Weight("final_logits_bias", ("head_bias",), ROW, {"tied": True}),
    ),
    keys=(
        Vocabularies(),
        Value("max_position_embeddings", ("context",), 1024),
        Value("d_model", ("width",), 1024),
        Value("encoder_layers", ("depth",), 12),
        Value("decoder_layers", ("decoder_depth",), 12),
        OfBothSides("attention_heads", "heads", 16),
        OfBothSides("ffn_dim", "mlp_width", 4096),
        Value("dropout", ("dropout",), 0.1),
        Value("attention_dropout", ("attention_dropout",), 0.0),
        Value("activation_dropout", ("activation_dropout",), 0.0),
        Value("scale_embedding", ("scale_embedding",), False),
        Value("decoder_start_token_id", ("bos_id",), 58_100),
        Choice("activation_function", "activation", "gelu", ACTIVATIONS),
        Fixed("normalize_before", False),
        Fixed("normalize_embedding", False),
        Fixed("add_final_layer_norm", False),
        Fixed("static_position_embeddings", True),
    ),
    fields={
        "norm": "layers.norm.layer_norm(epsilon=1e-05)",
        "positions": "layers.positions.Sinusoids(interleaved=False)",
        "head_bias": True,
    },
    missing={
        "decoder_depth": lambda fields: fields["depth"],
        "embedding_dropout": lambda fields: fields["dropout"],
        "key_width": lambda fields: fields["width"] // fields["heads"],
        "value_width": lambda fields: fields["width"] // fields["heads"],
    },
    free=FREE | {"context"},  # sinusoids have no end
    ignored=(r"(en|de)coder\.embed_positions\.weight", r"encoder\.embed_tokens\.weight"),
)
