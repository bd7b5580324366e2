"""GPT-1, GPT-2, Llama and Qwen (`arch.gpt.GPT`).

Sources: modeling_openai.py, modeling_gpt2.py, modeling_llama.py, modeling_qwen2.py and modeling_qwen3.py of
transformers 5.24, and the configuration files beside them, whose defaults stand here.
"""

import dataclasses

from arch.pretrained.family import (
    SAME,
    TRANSPOSED,
    Argument,
    Choice,
    Config,
    Family,
    Fields,
    Fixed,
    Key,
    Value,
    Weight,
    arguments,
    dense,
    norm,
    refusal,
)

ATTENTION, FEED_FORWARD = "trunk/block{}/attention", "trunk/block{}/feed_forward"
HEAD = Weight("lm_head.weight", ("head_kernel",), TRANSPOSED, {"tied": False})

# The layers of GPT-1 and GPT-2 are of the class `Conv1D`, whose weights are (in, out) as ours.
CONV1D = (
    *norm("h.{}.ln_1", f"{ATTENTION}/norm"),
    *dense("h.{}.attn.c_attn", *(f"{ATTENTION}/layer/{part}" for part in ("query", "key", "value")), change=SAME),
    *dense("h.{}.attn.c_proj", f"{ATTENTION}/layer/out", change=SAME),
    *norm("h.{}.ln_2", f"{FEED_FORWARD}/norm"),
    *dense("h.{}.mlp.c_fc", f"{FEED_FORWARD}/layer/hidden", change=SAME),
    *dense("h.{}.mlp.c_proj", f"{FEED_FORWARD}/layer/out", change=SAME),
    HEAD,
)
LINEAR = (
    Weight("embed_tokens.weight", ("embedding/embedding",)),
    *norm("layers.{}.input_layernorm", f"{ATTENTION}/norm"),
    *dense("layers.{}.self_attn.q_proj", f"{ATTENTION}/layer/query"),
    *dense("layers.{}.self_attn.k_proj", f"{ATTENTION}/layer/key"),
    *dense("layers.{}.self_attn.v_proj", f"{ATTENTION}/layer/value"),
    *dense("layers.{}.self_attn.o_proj", f"{ATTENTION}/layer/out"),
    Weight("layers.{}.self_attn.q_norm.weight", (f"{ATTENTION}/layer/query_norm/scale",)),
    Weight("layers.{}.self_attn.k_norm.weight", (f"{ATTENTION}/layer/key_norm/scale",)),
    *norm("layers.{}.post_attention_layernorm", f"{FEED_FORWARD}/norm"),
    *dense("layers.{}.mlp.gate_proj", f"{FEED_FORWARD}/layer/hidden"),
    *dense("layers.{}.mlp.up_proj", f"{FEED_FORWARD}/layer/gate"),
    *dense("layers.{}.mlp.down_proj", f"{FEED_FORWARD}/layer/out"),
    *norm("norm", "trunk/norm"),
    HEAD,
)

TANH, EXACT = "layers.feedforward.gelu_tanh", "layers.feedforward.gelu_exact"
ACTIVATIONS = {
    "gelu_new": TANH,
    "gelu_pytorch_tanh": TANH,
    "gelu_fast": TANH,
    "gelu": EXACT,
    "gelu_python": EXACT,
    "relu": "nn.relu",
    "relu2": "layers.feedforward.relu_squared",
    "silu": "nn.silu",
    "swish": "nn.silu",
    "tanh": "nn.tanh",
}
GPT1_ACTIVATIONS = {"gelu": TANH, "relu": "nn.relu", "silu": "nn.silu", "swish": "nn.silu"}  # its "gelu" is tanh's

MISSING = {
    "kv_heads": lambda fields: fields["heads"],
    "head_width": lambda fields: fields["width"] // fields["heads"],
    "mlp_width": lambda fields: 4 * fields["width"],
    "qkv_bias": lambda fields: fields["bias"],
    "embedding_dropout": lambda fields: fields["dropout"],
    "attention_dropout": lambda fields: fields["dropout"],
}


@dataclasses.dataclass(frozen=True)
class Rope(Key):
    """The base and scaling of rotary positions: `rope_theta` and `rope_scaling`, since transformers 5 together in
    `rope_parameters`. The former are written, which all versions read."""

    factors = ("factor", "low_freq_factor", "high_freq_factor")

    def read(self, config: Config) -> Fields:
        found = config.get("rope_parameters") or config.get("rope_scaling") or {}
        base = float(found.get("rope_theta") or config.get("rope_theta") or 10_000.0)
        kind = found.get("rope_type") or found.get("type") or "default"
        share = found.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
        if kind not in ("default", "llama3"):
            raise refusal("rope_type", kind, "only 'default' and 'llama3'")
        if share != 1:
            raise refusal("partial_rotary_factor", share, "only 1")
        scaling = ""
        if kind == "llama3":
            length = found.get("original_max_position_embeddings", config.get("max_position_embeddings"))
            scaling = f", scaling={(*(float(found[name]) for name in self.factors), length)!r}"
        return {"positions": f"layers.positions.Rotary(base={base!r}{scaling})"}

    def write(self, fields: Fields) -> Config:
        found = arguments(fields["positions"])
        config = {"rope_theta": found.get("base", 10_000.0)}
        if scaling := found.get("scaling"):
            *factors, length = scaling
            config["rope_scaling"] = {"rope_type": "llama3", **dict(zip(self.factors, factors, strict=True))}
            config["rope_scaling"]["original_max_position_embeddings"] = length
        return config


@dataclasses.dataclass(frozen=True)
class Biases(Key):
    """Llama's and Qwen's biases: `attention_bias` is that of all projections, `mlp_bias` that of the feed-forward
    layers."""

    def read(self, config: Config) -> Fields:
        of_attention, of_mlp = config.get("attention_bias", False), config.get("mlp_bias", False)
        if of_attention != of_mlp:
            raise refusal("attention_bias", of_attention, f"only that of mlp_bias, {of_mlp}")
        return {"bias": of_mlp}

    def write(self, fields: Fields) -> Config:
        return {"attention_bias": fields["bias"], "mlp_bias": fields["bias"]}


def _gpt(vocabulary: int, length: int) -> tuple[Key, ...]:
    """Returns the keys that GPT-1 and GPT-2 share."""
    return (
        Value("vocab_size", ("vocab_size", "num_classes"), vocabulary),
        Value("n_positions", ("context",), length),
        Value("n_embd", ("width",), 768),
        Value("n_layer", ("depth",), 12),
        Value("n_head", ("heads",), 12),
        Value("resid_pdrop", ("dropout",), 0.1),
        Value("embd_pdrop", ("embedding_dropout",), 0.1),
        Value("attn_pdrop", ("attention_dropout",), 0.1),
        Argument("layer_norm_epsilon", "norm", 1e-5, "layers.norm.layer_norm", "epsilon"),
    )


def _modern(vocabulary: int, length: int, mlp_width: int) -> tuple[Key, ...]:
    """Returns the keys that Llama and Qwen share."""
    return (
        Value("vocab_size", ("vocab_size", "num_classes"), vocabulary),
        Value("max_position_embeddings", ("context",), length),
        Value("hidden_size", ("width",), 4096),
        Value("intermediate_size", ("mlp_width",), mlp_width),
        Value("num_hidden_layers", ("depth",), 32),
        Value("num_attention_heads", ("heads",), 32),
        Value("num_key_value_heads", ("kv_heads",), None),
        Value("attention_dropout", ("attention_dropout",), 0.0),
        Value("tie_word_embeddings", ("tied",), False),
        Choice("hidden_act", "activation", "silu", ACTIVATIONS),
        Argument("rms_norm_eps", "norm", 1e-6, "layers.norm.rms_norm", "epsilon"),
        Rope(),
    )


MODERN = {"gated": True, "dropout": 0.0}
ALL_SEEN = Fixed("use_sliding_window", False)

GPT1 = Family(
    model_type="openai-gpt",
    architecture="OpenAIGPTLMHeadModel",
    model="gpt.GPT",
    prefix="transformer.",
    weights=(
        Weight("tokens_embed.weight", ("embedding/embedding",)),
        Weight("positions_embed.weight", ("position_embedding/embedding",)),
        *CONV1D,
    ),
    keys=(
        *_gpt(40_478, 512),
        Choice("afn", "activation", "gelu", GPT1_ACTIVATIONS),
        Fixed("tie_word_embeddings", True),
    ),
    fields={"order": "post", "tied": True},
    missing=MISSING,
    ignored=(r"position_ids", r"h\.\d+\.attn\.bias"),
)
GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    model="gpt.GPT",
    prefix="transformer.",
    weights=(
        Weight("wte.weight", ("embedding/embedding",)),
        Weight("wpe.weight", ("position_embedding/embedding",)),
        *CONV1D,
        *norm("ln_f", "trunk/norm"),
    ),
    keys=(
        *_gpt(50_257, 1024),
        Value("n_inner", ("mlp_width",), None),
        Choice("activation_function", "activation", "gelu_new", ACTIVATIONS),
        Value("tie_word_embeddings", ("tied",), True),
        Fixed("scale_attn_weights", True),
        Fixed("scale_attn_by_inverse_layer_idx", False),
        Fixed("add_cross_attention", False),
    ),
    missing=MISSING,
    ignored=(r"h\.\d+\.attn\.(masked_)?bias",),
)
LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    model="gpt.GPT",
    prefix="model.",
    weights=LINEAR,
    keys=(*_modern(32_000, 2048, 11_008), Value("head_dim", ("head_width",), None), Biases()),
    fields=MODERN,
    missing=MISSING,
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
)
QWEN2 = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    model="gpt.GPT",
    prefix="model.",
    weights=LINEAR,
    keys=(*_modern(151_936, 32_768, 22_016), Value("head_dim", ("head_width",), None), ALL_SEEN),
    fields=MODERN | {"bias": False, "qkv_bias": True},
    missing=MISSING,
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
)
QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    model="gpt.GPT",
    prefix="model.",
    weights=LINEAR,
    keys=(
        *_modern(151_936, 32_768, 22_016),
        Value("head_dim", ("head_width",), 128),
        Argument("rms_norm_eps", "qk_norm", 1e-6, "layers.norm.rms_norm", "epsilon"),
        Biases(),
        ALL_SEEN,
    ),
    fields=MODERN,
    missing=MISSING,
)
