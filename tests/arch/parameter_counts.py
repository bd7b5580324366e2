"""Published numbers of parameters of every architecture. No architecture is without an entry.

Where a paper gives none, the number is derived by hand, term by term.
"""

import functools
from dataclasses import dataclass

import jax.numpy as jnp

from arch.captioning import ConvEncoder
from arch.layers.attention import Dot, General
from arch.layers.recurrent import GRU, LSTM, Elman
from arch.resnet import PreActivationBlock


@dataclass(frozen=True)
class Published:
    """A count, within `rounding`, of the network with these `fields` on `inputs` (shape, dtype)."""

    fields: dict
    inputs: list[tuple[tuple[int, ...], type]]
    count: int
    rounding: int
    source: str


CIFAR = [((1, 32, 32, 3), jnp.float32)]
IMAGENET = [((1, 224, 224, 3), jnp.float32)]
CALIFORNIA = [((1, 8), jnp.float32)]
MUSIC = [((1, 20, 88), jnp.float32)]
TOKENS = [((1, 35), jnp.int32)]
SENTENCES = [((1, 30), jnp.int32), ((1,), jnp.int32), ((1, 30), jnp.int32)]
WORDS = {"num_classes": 10_000, "vocab_size": 10_000}
PEEPHOLES = functools.partial(LSTM, peepholes=True)
PRE_ACTIVATION = {"block": PreActivationBlock}

PARAMETER_COUNTS = {
    "captioning.ShowAttendTell": [
        Published(
            {"num_classes": 100, "encoder": functools.partial(ConvEncoder, widths=(5, 7)), "width": 11}
            | {"embedding_width": 13, "attention_units": 17},
            [((1, 8, 8, 3), jnp.float32), ((1, 6), jnp.int32)],
            (9 * 3 * 5 + 2 * 5 + 9 * 5 * 7 + 2 * 7)  # convolutions and norms
            + 2 * (7 + 1) * 11  # f_init of h and c
            + 100 * 13
            + (7 * 17 + 17 + 11 * 17 + 17)  # f_att
            + (11 + 1)  # beta
            + 4 * 11 * (13 + 7 + 11 + 1)
            + ((11 + 7) * 13 + 13 + (13 + 1) * 100),  # L_h, L_z, L_o
            0,
            "by hand, arXiv 1502.03044, sec. 3.1 and 4.2",
        ),
    ],
    "ctc.CTCEncoder": [
        Published(
            {"cell": PEEPHOLES, "widths": (100,), "num_classes": 62},
            [((1, 300, 26), jnp.float32), ((1,), jnp.int32)],
            114_662,
            0,
            "Graves et al. 2006, sec. 5.2: 26 inputs, 100 blocks each direction, 61 phonemes and the blank",
        ),
        Published(
            {"cell": GRU, "convolutions": ((32, 5, 2), (16, 3, 1)), "widths": (8, 8), "num_classes": 5},
            [((1, 30, 20), jnp.float32), ((1,), jnp.int32)],
            (5 * 20 + 1) * 32 + (3 * 32 + 1) * 16 + 2 * (24 * (16 + 8) + 32) + 2 * (24 * (16 + 8) + 32) + (16 + 1) * 5,
            0,
            "by hand: convolutions, two bidirectional layers (4 biases a unit), head",
        ),
    ],
    "seq2seq.Seq2Seq": [
        Published(
            {"cell": LSTM, "widths": (1000,) * 4, "vocab_size": 160_000, "num_classes": 80_000}
            | {"attention": None, "bidirectional": False, "reverse_source": True},
            SENTENCES,
            384_000_000,
            500_000,
            "arXiv 1409.3215, sec. 3.4: 384M, of which 64M recurrent",
        ),
        Published(
            {"cell": functools.partial(GRU, reset_after=False), "widths": (1000,), "embedding_width": 620}
            | {"vocab_size": 30_000, "num_classes": 30_000, "deep_output": 500},
            SENTENCES,
            (30_000 * 620 + 2 * 3 * 1000 * (620 + 1000 + 1))  # E, and W and U of both directions
            + (30_000 * 620 + 3 * 1000 * (620 + 2000 + 1000 + 1) + (1000 + 1) * 1000)  # E, W, C and U; W_s
            + (2000 * 1000 + 1000 + 1000 * 1000 + 1000)  # U_a, W_a, v_a
            + ((1000 + 620 + 2000 + 1) * 2 * 500 + (500 + 1) * 30_000),  # U_o, V_o, C_o; W_o
            0,
            "by hand, the matrices of arXiv 1409.0473, appendix A, and the biases it leaves out",
        ),
        *(
            Published(
                {"cell": LSTM, "widths": (1000,) * 4, "vocab_size": 50_000, "num_classes": 50_000, "query": "current"}
                | {"bidirectional": False, "attention": score, "input_feeding": feeding},
                SENTENCES,
                100_000_000  # embeddings
                + 8 * 4 * 1000 * (2000 + 1)  # layers
                + (4 * 1000 * 1000 if feeding else 0)  # the attentional vector, into the first layer
                + (weights + 2000 * 1000 + 1001 * 50_000),  # W_a, W_c, W_s
                0,
                "by hand, arXiv 1508.04025, eq. 5-8",
            )
            for score, weights, feeding in ((General, 1000 * 1000, True), (Dot, 0, False))
        ),
    ],
    "mlp.MLP": [
        Published(
            {"num_classes": 1, "widths": (510, 263, 363)},
            CALIFORNIA,
            (8 + 1) * 510 + (510 + 1) * 263 + (263 + 1) * 363 + (363 + 1) * 1,
            0,
            "1 bias and as many weights as inputs a unit; 235K: arXiv 2106.11959, tuned MLP on California housing",
        ),
    ],
    "mlp.TabularResNet": [
        Published(
            {"num_classes": 1},
            CALIFORNIA,
            (8 + 1) * 192 + 2 * (2 * 192 + (192 + 1) * 384 + (384 + 1) * 192) + 2 * 192 + (192 + 1),
            0,
            "arXiv 2106.11959, sec. 3.2: linear, 2 blocks of norm and 2 linears, norm, head",
        ),
    ],
    "rnn.RecurrentClassifier": [
        Published(
            {"widths": (130,)},
            [((1, 784, 1), jnp.float32)],
            70_000,
            500,
            "arXiv 1803.01271, table 1: 70K for the LSTM on sequential MNIST; the width is ours, found from the count",
        ),
        *(
            # torch has a second bias a gate, which ours (but the GRU's candidate) adds to the first
            Published(
                {"cell": cell, "widths": (46,), "num_classes": 1}, MUSIC, blocks * 46 * (88 + 46) + biases, 0, source
            )
            for cell, blocks, biases, source in (
                (Elman, 1, 46 + 47, "torch.nn.RNN: weights; 1 bias a unit, and the head's 46 + 1"),
                (LSTM, 4, 4 * 46 + 47, "torch.nn.LSTM, likewise"),
                (GRU, 3, 4 * 46 + 47, "torch.nn.GRU, likewise, with a second bias of the candidate"),
            )
        ),
    ],
    "rnn.RecurrentForecaster": [
        Published(
            {},
            [((1, 96, 7), jnp.float32)],
            4 * 64 * (7 + 64 + 1) + (64 + 1) * 7 * 24,
            0,
            "by hand: an LSTM of 64 units over 7 channels, a head for 24 steps of each",
        ),
    ],
    "rnn.RecurrentNetwork": [
        *(
            Published({**WORDS, "widths": (width,) * 2}, TOKENS, count, 500_000, "arXiv 1708.02182, table 1: " + source)
            for width, count, source in (
                (650, 20_000_000, "Zaremba et al. 2014, medium"),
                (1500, 66_000_000, "Zaremba et al. 2014, large"),
            )
        ),
        Published(
            {"cell": PEEPHOLES, "widths": (36,), "num_classes": 88},
            [((1, 20, 100), jnp.float32)],
            19_836 + 37 * 88,
            0,
            "by hand: 4*36*(100+36+1), 3*36 peepholes, head; 19.8K in arXiv 1412.3555, table 1, if inputs are 100 wide",
        ),
    ],
    "resnet.CifarResNet": [
        *(
            Published({"depth": depth}, CIFAR, count, rounding, "arXiv 1512.03385, table 6")
            for depth, count, rounding in (
                (20, 270_000, 5_000),
                (32, 460_000, 5_000),
                (44, 660_000, 5_000),
                (56, 850_000, 5_000),
                (110, 1_700_000, 50_000),
            )
        ),
        Published({"depth": 110, **PRE_ACTIVATION}, CIFAR, 1_700_000, 50_000, "arXiv 1605.07146, table 5"),
        Published(
            {"depth": 164, "bottleneck": True, "shortcut": "B", **PRE_ACTIVATION},
            CIFAR,
            1_700_000,
            50_000,
            "arXiv 1605.07146, table 5",
        ),
    ],
    "resnet.ResNet": [
        Published({"depth": depth}, IMAGENET, count, 0, "torchvision's resnet (shortcut B)")
        for depth, count in (
            (18, 11_689_512),
            (34, 21_797_672),
            (50, 25_557_032),
            (101, 44_549_160),
            (152, 60_192_808),
        )
    ],
    "resnet.WideResNet": [
        Published({"depth": depth, "width_factor": factor}, CIFAR, count, 50_000, "arXiv 1605.07146, table 5")
        for depth, factor, count in ((16, 4, 2_700_000), (40, 4, 8_900_000), (28, 10, 36_500_000))
    ],
}
