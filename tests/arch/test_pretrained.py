"""Tables of published networks: every name and every key of a config, in both directions; what cannot be represented.
Equality with transformers and torchvision is in tests/parity."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from arch.layers.norm import layer_norm, rms_norm
from arch.layers.positions import Rotary
from arch.pretrained.family import comparable, families
from arch.pretrained.table import CONV, flattened, tables
from core.errors import UserError
from inference.export import _fields
from tests.arch.architectures import architectures, make_inputs
from training import build

ARCHITECTURES = architectures()
FACTORISED = "R(2+1)D-18 torchvision"
LAYER = "block1_layer6_bottleneck"
SIZES = {"vocab_size": 23, "n_positions": 9, "n_embd": 6, "n_layer": 2, "n_head": 3}
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA = {"vocab_size": 23, "max_position_embeddings": 9, "hidden_size": 12, "intermediate_size": 5}
LLAMA |= {"num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 4}
MARIAN = {"vocab_size": 23, "max_position_embeddings": 9, "d_model": 6, "encoder_layers": 2, "decoder_layers": 1}
MARIAN |= {f"{side}_attention_heads": 3 for side in ("encoder", "decoder")}
MARIAN |= {f"{side}_ffn_dim": 5 for side in ("encoder", "decoder")}
VIT = {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 5, "patch_size": 4}
RESNET = {"model_type": "resnet", "layer_type": "bottleneck", "embedding_size": 2, "hidden_sizes": [8, 16]}
RESNET |= {"depths": [1, 2], "hidden_act": "relu", "downsample_in_first_stage": False}
RESNET |= {"downsample_in_bottleneck": False}
DETR = {"num_queries": 4, "d_model": 12, "encoder_layers": 1, "decoder_layers": 2}
DETR |= {f"{side}_attention_heads": 3 for side in ("encoder", "decoder")}
DETR |= {f"{side}_ffn_dim": 5 for side in ("encoder", "decoder")}
DETR |= {"backbone_config": RESNET | {"out_features": ["stage2"]}, "use_timm_backbone": False}
CAPTIONER = {"encoder": {"model_type": "vit"} | VIT}
GPT2 = {"model_type": "gpt2", "is_decoder": True, "add_cross_attention": True, "n_inner": 5} | SIZES
CAPTIONER |= {"decoder": GPT2, "decoder_start_token_id": 22}
BERT = {"vocab_size": 23, "max_position_embeddings": 11, "hidden_size": 6, "num_hidden_layers": 2}
BERT |= {"num_attention_heads": 3, "intermediate_size": 5}
DISTILBERT = {"vocab_size": 23, "max_position_embeddings": 9, "dim": 6, "n_layers": 2, "n_heads": 3, "hidden_dim": 5}
NAMES = {"id2label": {"0": "other", "1": "a place", "2": "a name"}}
HEADS = [{"architectures": [f"For{name}"]} for name in ("MaskedLM", "QuestionAnswering", "MultipleChoice")]
HEADS += [{"architectures": [f"For{name}Classification"]} | NAMES for name in ("Sequence", "Token")]


def of_heads(name: str, config: dict) -> list[dict]:
    """Returns the config with each head that all encoders have."""
    return [config | head | {"architectures": [name + head["architectures"][0]]} for head in HEADS]


CONFIGS = {  # each key differs from its default in one of them
    "openai-gpt": [SIZES, SIZES | {"afn": "relu", "layer_norm_epsilon": 1e-3, "embd_pdrop": 0.3}],
    "gpt2": [
        SIZES,
        SIZES | {"n_inner": 7, "activation_function": "gelu", "resid_pdrop": 0.0, "attn_pdrop": 0.2}
        | {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-6},
    ],
    "llama": [
        LLAMA,
        LLAMA | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "rope_theta": 5e5}
        | {"rope_scaling": ROPE | {"original_max_position_embeddings": 5}, "rms_norm_eps": 1e-5, "head_dim": 6},
    ],
    "qwen2": [LLAMA, LLAMA | {"rope_theta": 1e6, "attention_dropout": 0.1, "hidden_act": "relu2"}],
    "qwen3": [LLAMA, LLAMA | {"rms_norm_eps": 1e-5, "tie_word_embeddings": True}],
    "bert": [
        *of_heads("Bert", BERT),
        BERT | {"architectures": ["BertModel"], "hidden_act": "gelu_new", "hidden_dropout_prob": 0.2}
        | {"type_vocab_size": 3, "layer_norm_eps": 1e-5},
        BERT | {"architectures": ["BertForPreTraining"], "classifier_dropout": 0.3}
        | {"attention_probs_dropout_prob": 0.0},
    ],
    "roberta": [*of_heads("Roberta", BERT), BERT | {"architectures": ["RobertaModel"], "type_vocab_size": 1}],
    "distilbert": [
        *of_heads("DistilBert", DISTILBERT),
        DISTILBERT | {"activation": "relu", "dropout": 0.2, "attention_dropout": 0.0, "seq_classif_dropout": 0.3},
    ],
    "marian": [
        MARIAN | {"decoder_start_token_id": 22},
        MARIAN | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 29, "tie_word_embeddings": False}
        | {"activation_function": "silu", "scale_embedding": True, "activation_dropout": 0.1, "dropout": 0.0},
    ],
    "vit": [
        VIT,
        VIT | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6, "qkv_bias": False, "hidden_dropout_prob": 0.1}
        | {"attention_probs_dropout_prob": 0.2, "patch_size": 2},
    ],
    "resnet": [
        RESNET,
        RESNET | {"layer_type": "basic", "hidden_sizes": [2, 4, 8], "depths": [1, 2, 1], "hidden_act": "silu"},
    ],
    "detr": [
        DETR,
        DETR | {"position_embedding_type": "learned", "activation_function": "gelu"}
        | {"dropout": 0.0, "attention_dropout": 0.2, "activation_dropout": 0.3},
    ],
    "vision-encoder-decoder": [
        CAPTIONER,
        CAPTIONER | {"decoder": GPT2 | {"n_embd": 9, "tie_word_embeddings": False, "activation_function": "relu"}
        | {"resid_pdrop": 0.0, "embd_pdrop": 0.2, "attn_pdrop": 0.3, "layer_norm_epsilon": 1e-3}},
    ],
}  # fmt: skip
CASES = [(kind, config) for kind, configs in CONFIGS.items() for config in configs]


def model_of(kind, config):
    family = families()[kind]
    return build.construct(ConfigDict({"name": family.model, **family.read_config(config)}), "arch")


def test_every_type_is_found_and_tested():
    assert families().keys() == CONFIGS.keys()


def _common(written: dict, config: dict) -> dict:
    """Returns the values of the keys of a config.json, and of the configs of its parts."""
    parts = {key: x for key, x in config.items() if isinstance(x, dict) and "model_type" in x}
    return {key: _common(written[key], parts[key]) if key in parts else written.get(key) for key in config}


@pytest.mark.parametrize(("kind", "config"), CASES, ids=str)
def test_configs_come_back(kind, config):
    family, model = families()[kind], model_of(kind, config)
    written = family.write_config(_fields(model))
    unnamed = {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}  # names come from the data
    assert _common(written, config) == {key: unnamed.get(key, x) for key, x in config.items()}
    again = model_of(kind, written)
    assert not family.differences(_fields(model), _fields(again))
    assert all(
        getattr(model, field.name) == getattr(again, field.name)
        for field in dataclasses.fields(model)
        if "dropout" in field.name
    )


@pytest.mark.parametrize(("kind", "config"), CASES, ids=str)
def test_every_parameter_has_a_name_and_comes_back(kind, config):
    family, model = families()[kind], model_of(kind, config)
    inputs = make_inputs(type(model), length=9, source_length=9)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)
    flat = {path: x.shape for tree in shapes.values() for path, x in flatten_dict(tree, sep="/").items()}
    params = {path: rng.standard_normal(shape) for path, shape in flat.items()}
    written = family.write_weights(params, family.read_config(config))
    for prefix in ("", family.prefix):  # of models with and without a head
        theirs = {prefix + name.removeprefix(family.prefix): x for name, x in written.items()}
        found, unknown = family.read_weights(theirs, family.read_config(config))
        assert not unknown and found.keys() == params.keys()
        assert all(np.array_equal(found[path], params[path]) for path in params)


@pytest.mark.parametrize(
    ("keys", "blocks"),
    [
        ({}, "(3, 4, 6, 3)"),
        ({"backbone": "resnet101", "use_timm_backbone": True, "backbone_config": None}, "(3, 4, 23, 3)"),
        ({"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet18.a1_in1k"}}, "(2, 2, 2, 2)"),
        ({"use_timm_backbone": False}, "(3, 4, 6, 3)"),
    ],
)
def test_backbones_of_detr_by_name(keys, blocks):
    """They are the networks of torchvision, with frozen norms, and their arrays have timm's names."""
    found = families()["detr"].read_config(keys)["backbone"]
    block = "BasicBlock" if "18" in str(keys) else "BottleneckBlock"
    expected = f"resnet.ResNet(block=resnet.{block}, width=64, blocks={blocks}, activation=nn.relu, norm=layers.norm."
    assert found == f"{expected}frozen_batch_norm(epsilon=1e-05))"
    name = "model.backbone.conv_encoder.model.layer4.1.bn2.running_var"
    arrays, unknown = families()["detr"].read_weights({name: np.ones(3)}, families()["detr"].read_config(keys))
    assert list(arrays) == ["image_network/stage4_block2/BatchNorm_1/var"] and not unknown


def test_constants_and_tied_heads_are_not_read():
    config = {**SIZES, "tie_word_embeddings": True}
    family, rng = families()["gpt2"], np.random.default_rng(0)
    arrays = {"transformer.wte.weight": rng.standard_normal((23, 6)), "lm_head.weight": rng.standard_normal((23, 6))}
    arrays |= {"transformer.h.0.attn.bias": np.ones((1, 1, 9, 9)), "transformer.h.0.attn.masked_bias": np.ones(())}
    found, unknown = family.read_weights(arrays | {"transformer.h.0.lora": np.ones(2)}, family.read_config(config))
    assert list(found) == ["embedding/embedding"] and unknown == ["h.0.lora"]
    untied, _ = family.read_weights(arrays, family.read_config(config | {"tie_word_embeddings": False}))
    assert np.array_equal(untied["head_kernel"], arrays["lm_head.weight"].T)


def test_queries_keys_and_values_are_split_in_this_order():
    fused, family = np.arange(4 * 12.0).reshape(4, 12), families()["gpt2"]
    found, _ = family.read_weights({"h.0.attn.c_attn.weight": fused}, {"tied": True})
    for start, part in enumerate(("query", "key", "value")):
        kernel = found[f"trunk/block1/attention/layer/{part}/kernel"]
        assert np.array_equal(kernel, fused[:, 4 * start : 4 * start + 4])
    linear, _ = families()["llama"].read_weights({"model.layers.0.mlp.up_proj.weight": fused}, {"tied": True})
    assert np.array_equal(linear["trunk/block1/feed_forward/layer/gate/kernel"], fused.T)


def test_gpt1_has_the_approximate_gelu_under_the_name_of_the_exact_one():
    assert families()["openai-gpt"].read_config(SIZES)["activation"] == "layers.feedforward.gelu_tanh"
    exact = families()["gpt2"].read_config(SIZES | {"activation_function": "gelu"})
    assert exact["activation"] == "layers.feedforward.gelu_exact"


def test_both_formats_of_rotary_positions():
    rope = ROPE | {"original_max_position_embeddings": 5}
    old = LLAMA | {
        "rope_theta": 5e5,
        "rope_scaling": {"type" if key == "rope_type" else key: x for key, x in rope.items()},
    }
    new = LLAMA | {"rope_parameters": rope | {"rope_theta": 5e5}}
    expected = "layers.positions.Rotary(base=500000.0, scaling=(8.0, 1.0, 4.0, 5))"
    assert [families()["llama"].read_config(config)["positions"] for config in (old, new)] == [expected] * 2


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("gpt2", {"activation_function": "quick_gelu"}, ["activation_function", "quick_gelu", "gelu"]),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, ["scale_attn_by_inverse_layer_idx", "True"]),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, ["rope_type", "yarn"]),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}, ["rope_type", "linear"]),
        ("llama", {"attention_bias": True}, ["attention_bias", "mlp_bias"]),
        ("llama", {"partial_rotary_factor": 0.5}, ["partial_rotary_factor", "0.5"]),
        ("qwen2", {"use_sliding_window": True}, ["use_sliding_window"]),
        ("bert", {"architectures": ["BertLMHeadModel"]}, ["architectures", "BertLMHeadModel", "BertModel"]),
        ("bert", {"position_embedding_type": "relative_key"}, ["position_embedding_type", "relative_key"]),
        ("bert", {"type_vocab_size": 0}, ["type_vocab_size"]),
        ("roberta", {"hidden_act": "gelu_new"}, ["hidden_act", "gelu_new"]),
        ("roberta", {"pad_token_id": 0}, ["pad_token_id"]),
        ("distilbert", {"sinusoidal_pos_embds": True}, ["sinusoidal_pos_embds"]),
        ("marian", {"decoder_ffn_dim": 6}, ["decoder_ffn_dim", "6"]),
        ("marian", {"tie_word_embeddings": False}, ["tie_word_embeddings"]),
        ("vit", {"patch_size": [2, 4]}, ["patch_size", "square"]),
        ("resnet", {"hidden_sizes": [8, 24]}, ["hidden_sizes", "[8, 16]"]),
        ("resnet", {"downsample_in_bottleneck": True}, ["downsample_in_bottleneck"]),
        ("detr", {"backbone_config": {"model_type": "swin"}}, ["backbone_config", "swin", "resnet"]),
        ("detr", {"backbone_config": RESNET | {"out_features": ["stage1"]}}, ["out_features", "stage2"]),
        (
            "detr",
            {"backbone_config": None, "use_timm_backbone": True, "backbone": "resnest50"},
            ["backbone", "resnet50"],
        ),
        ("detr", {"decoder_ffn_dim": 6}, ["decoder_ffn_dim", "6"]),
        ("vision-encoder-decoder", {"encoder": {"model_type": "deit"}}, ["encoder", "deit", "vit"]),
        ("vision-encoder-decoder", {"decoder": {"model_type": "bert"}}, ["decoder", "bert", "gpt2"]),
        ("vision-encoder-decoder", {"decoder": {"add_cross_attention": False}}, ["add_cross_attention"]),
        ("detr", {"dilation": True}, ["dilation"]),
        ("detr", {"auxiliary_loss": True}, ["auxiliary_loss"]),
    ],
    ids=str,
)
def test_what_an_architecture_cannot_represent(kind, change, words):
    with pytest.raises(UserError) as refusal:
        families()[kind].read_config(CONFIGS[kind][0] | change)
    assert all(word in str(refusal.value) for word in words) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["gelu", "gelu_new"])
def test_the_gelu_of_a_config_is_kept(kind):
    config = BERT | {"hidden_act": kind}
    value = model_of("bert", config).activation(np.float32(1))
    assert value == pytest.approx({"gelu": 0.841345, "gelu_new": 0.841192}[kind], abs=1e-6)
    assert families()["bert"].write_config(_fields(model_of("bert", config)))["hidden_act"] == kind


def test_names_of_tensorflow_are_read_and_the_tied_layer_is_not():
    family, rng = families()["bert"], np.random.default_rng(0)
    arrays = {"bert.embeddings.LayerNorm.gamma": np.ones(6), "bert.embeddings.LayerNorm.beta": np.zeros(6)}
    arrays |= {
        "cls.predictions.decoder.weight": rng.standard_normal((23, 6)),
        "cls.predictions.decoder.bias": np.ones(23),
    }
    found, unknown = family.read_weights(arrays | {"bert.embeddings.position_ids": np.arange(9)}, {"head": ""})
    assert not unknown
    assert found.keys() == {"embedding_norm/scale", "embedding_norm/bias", "output/head_bias"}


def test_roberta_counts_positions_from_behind_its_padding():
    table = np.arange(11.0)[:, None]
    arrays = {"roberta.embeddings.position_embeddings.weight": table}
    found, _ = families()["roberta"].read_weights(arrays, {"head": ""})
    assert found["position_embedding/embedding"].tolist() == [[x] for x in range(2, 11)]
    assert families()["roberta"].read_config(BERT)["context"] == 9


def test_parameters_without_a_name_are_refused():
    with pytest.raises(UserError, match="trunk/block1/attention/lora has no name in checkpoints of gpt2"):
        families()["gpt2"].write_weights({"trunk/block1/attention/lora": np.ones(2)}, {"tied": True})


def test_functions_are_compared_with_their_arguments():
    assert comparable(layer_norm) == comparable(functools.partial(layer_norm, epsilon=1e-6))
    assert comparable(layer_norm) != comparable(functools.partial(layer_norm, epsilon=1e-5))
    assert comparable(layer_norm) != comparable(rms_norm)
    assert comparable((Rotary, None)) == comparable((functools.partial(Rotary, base=10_000), None))
    assert comparable(functools.partial(Rotary, scaling=(1.0, 2.0, 3.0, 4))) != comparable(Rotary)


@pytest.mark.parametrize("name", tables())
def test_tables_name_every_variable_and_arrays_come_back(name):
    model = ARCHITECTURES[name](**ARCHITECTURES[name].VARIANTS["test"])
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *make_inputs(type(model)))
    rng = np.random.default_rng(0)
    ours = {
        collection: {path: rng.standard_normal(x.shape) for path, x in flatten_dict(tree, sep="/").items()}
        for collection, tree in shapes.items()
    }
    for table in tables()[name]:
        theirs = table.write(ours, model)
        assert sum(x.size for x in theirs.values()) == sum(x.size for tree in ours.values() for x in tree.values())
        found, unknown = table.read(theirs | {"norm.num_batches_tracked": np.ones(())}, model)
        assert not unknown
        for collection, tree in found.items():
            assert tree.keys() == ours.get(collection, {}).keys()
            assert all(np.array_equal(x, ours[collection][path]) for path, x in tree.items())


@pytest.mark.parametrize(
    ("name", "variant", "theirs", "ours"),
    [
        ("resnet.ResNet", "50", "layer3.5.bn3.running_var", "stage3_block6/BatchNorm_2/var"),
        ("resnet.ResNet", "18", "layer2.0.downsample.0.weight", "stage2_block1/shortcut_conv/kernel"),
        ("alexnet.AlexNet", "2014", "features.10.bias", "conv5/bias"),
        ("vgg.VGG", "11", "features.18.weight", "stage5_conv2/kernel"),
        ("vgg.VGG", "16-bn", "features.40.weight", "stage5_conv3/kernel"),
        ("vgg.VGG", "19-bn", "features.50.running_mean", "stage5_norm4/mean"),
        ("vgg.VGG", "16", "classifier.3.bias", "dense2/bias"),
        ("densenet.DenseNet", "121", "features.denseblock4.denselayer16.norm2.bias", "block4_layer16_norm/bias"),
        ("densenet.DenseNet", "121", "features.denseblock4.denselayer9.conv.2.weight", "block4_layer9_conv/kernel"),
        ("densenet.DenseNet", "121", "features.denseblock1.denselayer6.norm1.bias", f"{LAYER}_norm/bias"),
        ("densenet.DenseNet", "201", "features.norm5.weight", "final_norm/scale"),
        ("convnext.ConvNeXt", "T", "features.7.2.block.5.weight", "stage4_block3/project/kernel"),
        ("convnext.ConvNeXt", "S", "features.6.1.weight", "stage4_conv/kernel"),
        ("video_resnet.VideoResNet", "R3D-18", "layer1.1.conv2.1.running_var", "stage1_block2/BatchNorm_1/var"),
        ("video_resnet.VideoResNet", "MC3-18", "layer2.0.downsample.0.weight", "stage2_block1/shortcut_conv/kernel"),
        ("video_resnet.VideoResNet", FACTORISED, "stem.3.weight", "stem_conv/kernel"),
        ("video_resnet.VideoResNet", FACTORISED, "layer4.1.conv2.0.3.weight", "stage4_block2/Conv_3/kernel"),
        ("video_resnet.VideoResNet", FACTORISED, "layer1.0.conv1.1.bias", "stage1_block1/BatchNorm_1/bias"),
    ],
)  # fmt: skip
def test_names_of_torchvision(name, variant, theirs, ours):
    """Names of arrays in the published files, copied from torchvision 0.28."""
    model, (table,) = ARCHITECTURES[name](**ARCHITECTURES[name].VARIANTS[variant]), tables()[name]
    rows = [row for row in table.rows(model) if theirs in row.theirs.split("|")]
    assert [row.ours for row in rows] == [(ours,)]


def test_layouts_of_pytorch():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((5, 2, 3, 4))  # out, in, height, width
    assert np.array_equal(CONV.to_ours(kernel)[2, 3], kernel[:, :, 2, 3].T)
    images, weight = rng.standard_normal((6, 2, 3, 4)), rng.standard_normal((7, 24))  # [b, c, h, w]
    expected = images.reshape(6, -1) @ weight.T
    ours = images.transpose(0, 2, 3, 1).reshape(6, -1) @ flattened(3, 4).to_ours(weight)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert np.array_equal(flattened(3, 4).to_theirs(flattened(3, 4).to_ours(weight)), weight)


def test_names_without_a_place_and_variables_without_a_name():
    model, (table,) = ARCHITECTURES["resnet.ResNet"](num_classes=3), tables()["resnet.ResNet"]
    found, unknown = table.read({"fc.bias": np.arange(3), "bn1.running_var": np.ones(64), "aux.weight": 0}, model)
    assert list(found["params"]) == ["head/bias"] and list(found["batch_stats"]) == ["stem_norm/var"]
    assert unknown == ["aux.weight"]
    with pytest.raises(UserError, match=r"stem_conv/lora of resnet.ResNet has no name in files of torchvision"):
        table.write({"params": {"stem_conv/lora": np.ones(2)}}, model)
