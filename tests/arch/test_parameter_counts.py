"""Numbers of parameters: published ones, which stand beside the variants in each class, and some derived by hand."""

import functools
import inspect
import math

import jax
import pytest

from arch.captioning import ShowAttendTell
from arch.convnet import ConvNet
from arch.ctc import CTCEncoder
from arch.forecaster import Forecaster
from arch.layers.recurrent import GRU, LSTM, Elman
from arch.layers.recurrent_attention import Dot
from arch.layers.recurrent_variants import VariantLSTM
from arch.mlp import MLP, TabularResNet
from arch.rnn import RecurrentClassifier, RecurrentNetwork
from arch.seq2seq import Seq2Seq
from arch.tcn import TCN
from arch.wavenet import WaveNet
from tests.arch.architectures import architectures, make_inputs

ARCHITECTURES = architectures()
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
RNNSEARCH, LUONG = Seq2Seq.VARIANTS["RNNsearch"], Seq2Seq.VARIANTS["Luong"]

DERIVED = {
    "captioning": (
        ShowAttendTell,
        {"num_classes": 100, "backbone": functools.partial(ConvNet, widths=(5, 7)), "width": 11}
        | {"embedding_width": 13, "attention_units": 17},
        {},
        (9 * 3 * 5 + 2 * 5 + 9 * 5 * 7 + 2 * 7)  # convolutions and norms
        + 2 * (7 + 1) * 11  # f_init of h and c
        + 100 * 13
        + (7 * 17 + 17 + 11 * 17 + 17)  # f_att
        + (11 + 1)  # beta
        + 4 * 11 * (13 + 7 + 11 + 1)
        + ((11 + 7) * 13 + 13 + (13 + 1) * 100),  # L_h, L_z, L_o
    ),
    "convolutions before bidirectional layers": (
        CTCEncoder,
        {"cell": GRU, "convolutions": ((32, 5, 2), (16, 3, 1)), "widths": (8, 8), "num_classes": 5},
        {"features": 20},
        (5 * 20 + 1) * 32 + (3 * 32 + 1) * 16 + 4 * (24 * (16 + 8) + 32) + (16 + 1) * 5,  # 4 biases per unit of a GRU
    ),
    "RNNsearch": (  # the matrices of arXiv 1409.0473, appendix A, and the biases it leaves out
        Seq2Seq,
        RNNSEARCH,
        {},
        (30_000 * 620 + 2 * 3 * 1000 * (620 + 1000 + 1))  # E, and W and U of both directions
        + (30_000 * 620 + 3 * 1000 * (620 + 2000 + 1000 + 1) + (1000 + 1) * 1000)  # E, W, C and U; W_s
        + (2000 * 1000 + 1000 + 1000 * 1000 + 1000)  # U_a, W_a, v_a
        + ((1000 + 620 + 2000 + 1) * 2 * 500 + (500 + 1) * 30_000),  # U_o, V_o, C_o; W_o
    ),
    **{
        name: (  # arXiv 1508.04025, eq. 5-8
            Seq2Seq,
            LUONG | fields,
            {},
            100_000_000 + 8 * 4 * 1000 * (2000 + 1) + feeding + score + 2000 * 1000 + 1001 * 50_000,  # W_c, W_s
        )
        for name, fields, feeding, score in (
            ("Luong", {}, 4 * 1000 * 1000, 1000 * 1000),
            ("Luong, dot", {"attention": Dot, "input_feeding": False}, 0, 0),
        )
    },
    "mlp": (  # 235K in arXiv 2106.11959, tuned on California housing
        MLP,
        {"num_classes": 1, "widths": (510, 263, 363)},
        {"*features": (8,)},
        (8 + 1) * 510 + (510 + 1) * 263 + (263 + 1) * 363 + (363 + 1) * 1,
    ),
    "tabular": (  # arXiv 2106.11959, sec. 3.2: linear, 2 blocks of norm and 2 linears, norm, head
        TabularResNet,
        {"num_classes": 1},
        {"features": 8},
        (8 + 1) * 192 + 2 * (2 * 192 + (192 + 1) * 384 + (384 + 1) * 192) + 2 * 192 + (192 + 1),
    ),
    **{
        cell.__name__: (  # torch has a second bias per gate, which ours (but the GRU's candidate) adds to the first
            RecurrentClassifier,
            {"cell": cell, "widths": (46,), "num_classes": 1},
            {"features": 88},
            blocks * 46 * (88 + 46) + biases * 46 + 47,
        )
        for cell, blocks, biases in ((Elman, 1, 1), (LSTM, 4, 4), (GRU, 3, 4))
    },
    "peepholes": (  # 19.8K in arXiv 1412.3555, table 1, if inputs are 100 wide; and the head
        RecurrentNetwork,
        {"cell": functools.partial(VariantLSTM, peepholes=True), "widths": (36,), "num_classes": 88},
        {"features": 100, "tokens": False},
        4 * 36 * (100 + 36 + 1) + 3 * 36 + 37 * 88,
    ),
    "forecaster": (
        Forecaster,
        {"network": functools.partial(RecurrentClassifier, widths=(64,))},
        {"features": 7},
        (4 * 64 * (7 + 64 + 1) + (64 + 1) * 7 * 24) + 7 * (12 + 1) * 24,  # 12: the length of the past
    ),
    "Bai's network for chorales": (  # "300K" in arXiv 1803.01271, table 1; a scale and a bias per channel
        TCN,
        TCN.VARIANTS["JSB"],
        {"features": 88, "tokens": False},
        (3 * 88 + 2) * 150 + 3 * (3 * 150 + 2) * 150 + (88 + 1) * 150 + (150 + 1) * 88,
    ),
    "Bai's network for copying": (  # "13K" in the captions of its figures
        TCN,
        TCN.VARIANTS["copy 1000"],
        {"features": 1, "tokens": False},
        (8 * 1 + 2) * 10 + 15 * (8 * 10 + 2) * 10 + (1 + 1) * 10 + (10 + 1) * 10,
    ),
    "WaveNet": (
        WaveNet,
        {"num_classes": 256, "width": 8, "skip": 12, "dilations": (1, 2, 4), "conditions": 5, "condition_width": 3},
        {},
        (256 * 8 + 5 * 3 + (2 * 8 + 1) * 8)  # codes and classes, the first layer
        + 3 * ((2 * 8 + 1) * 16 + 3 * 16)  # filters and gates
        + (2 * (8 + 1) * (12 + 8) + (8 + 1) * 12)  # residual and skip connections; the last block has no residual
        + ((12 + 1) * 12 + (12 + 1) * 256),
    ),
}


def count(architecture, fields: dict, sizes: dict) -> int:
    if "scan" in inspect.signature(architecture).parameters:
        fields = {"scan": True} | fields  # a deep network is traced in a second
    model, inputs = architecture(**fields), make_inputs(architecture, **sizes)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *inputs)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def published() -> list:
    """Returns (architecture, variant); all but the first of an architecture are slow."""
    found = []
    for name, architecture in ARCHITECTURES.items():
        for number, variant in enumerate(getattr(architecture, "PUBLISHED", {})):
            found.append(pytest.param(name, variant, marks=pytest.mark.slow if number else ()))
    return found


@pytest.mark.parametrize(("name", "variant"), published())
def test_parameters_are_as_many_as_published(name, variant):
    architecture = ARCHITECTURES[name]
    number = architecture.PUBLISHED[variant]
    if isinstance(number, str):  # as printed: half a unit of the last digit may be missing
        digits, unit = number.rstrip("KMB"), UNITS[number.lstrip("0123456789.")]
        expected, rounding = float(digits) * unit, unit * 10.0 ** -len(digits.partition(".")[2]) / 2
    else:
        expected, rounding = number, 0
    found = count(architecture, architecture.VARIANTS[variant], getattr(architecture, "PUBLISHED_SIZES", {}))
    assert abs(found - expected) <= rounding


@pytest.mark.parametrize("name", DERIVED)
def test_parameters_are_as_many_as_derived(name):
    architecture, fields, sizes, expected = DERIVED[name]
    assert count(architecture, fields, sizes) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_variants_without_a_published_number_can_be_built(name):
    architecture = ARCHITECTURES[name]
    assert "test" in architecture.VARIANTS
    for variant in set(architecture.VARIANTS) - set(getattr(architecture, "PUBLISHED", {})):
        assert count(architecture, architecture.VARIANTS[variant], {}) > 0
