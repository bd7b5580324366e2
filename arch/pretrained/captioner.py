"""Captioners of a ViT and GPT-2 (`arch.captioner.Captioner`): transformers' VisionEncoderDecoderModel.

Source: modeling_vision_encoder_decoder.py, modeling_gpt2.py and the configuration files beside them of transformers
5.24. The decoder attends to all tokens of the ViT; a dense layer lies between them only if their widths differ. The
pooler of the ViT computes nothing that the decoder reads. Images are square, and normalised with mean and standard
deviation 0.5: `configs/captions.py:csv`.
"""

import dataclasses

from arch.pretrained import vit
from arch.pretrained.family import (
    FREE,
    SAME,
    TRANSPOSED,
    Argument,
    Choice,
    Config,
    Family,
    Fields,
    Fixed,
    Key,
    Part,
    Shapes,
    Value,
    Weight,
    dense,
    norm,
    refusal,
)
from arch.pretrained.gpt import ACTIVATIONS

BLOCK, DECODER = "decoder.transformer.h.{}", "decoder/block{}"
PROJECTIONS = ("query", "key", "value")


def _encoder_rows() -> tuple[Weight, ...]:
    rows = (row for row in vit.VIT.weights if not row.theirs.startswith(vit.VIT.headed))
    return tuple(
        row._replace(
            theirs="|".join(f"encoder.{name}" for name in row.theirs.split("|")),
            ours=tuple(f"image_network/{path}" for path in row.ours),
        )
        for row in rows
    )


class MlpWidth(Key):
    """The width of the feed-forward layers; null: four times that of the model."""

    def read(self, config: Config) -> Fields:
        return {"mlp_width": config.get("n_inner") or 4 * config.get("n_embd", 768)}

    def write(self, fields: Fields) -> Config:
        return {"n_inner": fields["mlp_width"]}


class Begin(Key):
    """The token that texts begin with: the decoder's begin token, unless config.json names another."""

    def read(self, config: Config) -> Fields:
        decoder = config.get("decoder") or {}
        named = (part.get("decoder_start_token_id") for part in (config, decoder))
        return {"bos_id": next((x for x in named if x is not None), decoder.get("bos_token_id", 50_256))}

    def write(self, fields: Fields) -> Config:
        return {"decoder_start_token_id": fields["bos_id"]}


@dataclasses.dataclass(frozen=True)
class Decoder(Key):
    """The config.json of a GPT-2 within that of the whole, of fields of the whole."""

    keys: tuple[Key, ...]

    def read(self, config: Config) -> Fields:
        found, fields = config.get("decoder") or {}, {}
        if (kind := found.get("model_type", "gpt2")) != "gpt2":
            raise refusal("model_type of decoder", kind, "only 'gpt2'")
        for key in self.keys:
            fields |= key.read(found)
        return fields

    def write(self, fields: Fields) -> Config:
        written = {"model_type": "gpt2", "is_decoder": True}
        for key in self.keys:
            written |= key.write(fields)
        return {"decoder": written}


def _of_shapes(shapes: Shapes, config: Config) -> Config:
    part = "image_network/"
    of_encoder = {path.removeprefix(part): shape for path, shape in shapes.items() if path.startswith(part)}
    return {"encoder": config["encoder"] | vit.VIT.of_shapes(of_encoder, config["encoder"])}


CAPTIONER = Family(
    model_type="vision-encoder-decoder",
    architecture="VisionEncoderDecoderModel",
    model="captioner.Captioner",
    reads=(),
    image=lambda config: vit.VIT.image(config.get("encoder") or {}),
    prefix="",
    weights=(
        *_encoder_rows(),
        *dense("enc_to_dec_proj", "projection"),
        Weight("decoder.transformer.wte.weight", ("target_embedding/embedding",)),
        Weight("decoder.transformer.wpe.weight", ("target_positions/embedding",)),
        *norm(f"{BLOCK}.ln_1", f"{DECODER}/self_attention/norm"),
        *dense(f"{BLOCK}.attn.c_attn", *(f"{DECODER}/self_attention/layer/{x}" for x in PROJECTIONS), change=SAME),
        *dense(f"{BLOCK}.attn.c_proj", f"{DECODER}/self_attention/layer/out", change=SAME),
        *norm(f"{BLOCK}.ln_cross_attn", f"{DECODER}/cross_attention/norm"),
        *dense(f"{BLOCK}.crossattention.q_attn", f"{DECODER}/cross_attention/layer/query", change=SAME),
        *dense(
            f"{BLOCK}.crossattention.c_attn",
            *(f"{DECODER}/cross_attention/layer/{x}" for x in PROJECTIONS[1:]),
            change=SAME,
        ),
        *dense(f"{BLOCK}.crossattention.c_proj", f"{DECODER}/cross_attention/layer/out", change=SAME),
        *norm(f"{BLOCK}.ln_2", f"{DECODER}/feed_forward/norm"),
        *dense(f"{BLOCK}.mlp.c_fc", f"{DECODER}/feed_forward/layer/hidden", change=SAME),
        *dense(f"{BLOCK}.mlp.c_proj", f"{DECODER}/feed_forward/layer/out", change=SAME),
        *norm("decoder.transformer.ln_f", "decoder/norm"),
        Weight("decoder.lm_head.weight", ("head/kernel",), TRANSPOSED, {"tied": False}),
    ),
    keys=(
        Part("encoder", "backbone", vit.VIT),
        Decoder(
            (
                Value("vocab_size", ("num_classes",), 50_257),
                Value("n_positions", ("context",), 1024),
                Value("n_embd", ("width",), 768),
                Value("n_layer", ("decoder_depth",), 12),
                Value("n_head", ("heads",), 12),
                MlpWidth(),
                Value("resid_pdrop", ("dropout",), 0.1),
                Value("embd_pdrop", ("embedding_dropout",), 0.1),
                Value("attn_pdrop", ("attention_dropout",), 0.1),
                Argument("layer_norm_epsilon", "norm", 1e-5, "layers.norm.layer_norm", "epsilon"),
                Choice("activation_function", "activation", "gelu_new", ACTIVATIONS),
                Value("tie_word_embeddings", ("tied",), True),
                Fixed("add_cross_attention", True),
                Fixed("scale_attn_weights", True),
                Fixed("scale_attn_by_inverse_layer_idx", False),
            )
        ),
        Begin(),
    ),
    fields={
        "memory": "tokens",
        "depth": 0,
        "order": "pre",
        "positions": "layers.positions.Learned",
        "scale_embedding": False,
        "head_bias": False,
    },
    missing={
        "embedding_dropout": lambda fields: fields["dropout"],
        "key_width": lambda fields: fields["width"] // fields["heads"],
        "value_width": lambda fields: fields["width"] // fields["heads"],
    },
    free=FREE | {"depth", "places"},  # those of an encoder that it lacks
    ignored=(r"encoder\.pooler\..*", r"decoder\.transformer\.h\.\d+\.(attn|crossattention)\.(masked_)?bias"),
    of_shapes=_of_shapes,
)
