"""A network in this project and in PyTorch, and one training step of each: the same loss, optimizer and batch.

Imports only `arch`, `tasks`, `training.state` and `training.step`, so that it runs with little more than jax, flax,
optax and PyTorch installed.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn
from torch.nn import functional as F

from arch.bert import BERT
from arch.convnext import ConvNeXt
from arch.densenet import DenseNet
from arch.detr import DETR
from arch.ft_transformer import FTTransformer
from arch.gpt import GPT
from arch.layers.feedforward import gelu_tanh
from arch.layers.norm import frozen_batch_norm
from arch.layers.patches import PatchNetwork
from arch.layers.recurrent import GRU, LSTM, Elman
from arch.lenet import LeNet5
from arch.resnet import BasicBlock, ResNet, WaveResNet
from arch.rnn import RecurrentClassifier
from arch.tcn import TCNClassifier
from arch.textcnn import TextCNN
from arch.transformer import Transformer
from arch.unet import UNet
from arch.vgg import DEPTHS, VGG
from arch.video_resnet import VideoResNet
from arch.wavenet import WaveNet
from benchmarks import (
    peers,
    peers_attention,
    peers_convolution,
    peers_detection,
    peers_images,
    peers_patches,
    peers_video,
)
from tasks.classification import Classification
from tasks.detection import MATCHINGS, Detection
from tasks.masked import MaskedTokens
from tasks.segmentation import Segmentation
from tasks.sequence import TokenClassification
from tasks.task import Task
from training.state import create
from training.step import train_step

CELLS = {"LSTM": LSTM, "GRU": GRU, "RNN": Elman}
SECONDS = 0.4  # per turn, after one step that is not timed: the other side's threads may still be spinning
ADAMW = {"weight_decay": 0.1, "eps": 1e-8}

Run = Callable[[int], None]  # runs a number of steps, and waits for the last one


@dataclasses.dataclass(frozen=True)
class Network:
    """One network in both frameworks.

    Attributes:
        model, peer: ours, and PyTorch's, which gets the same inputs, but images as [b, c, h, w], videos as
            [b, c, t, h, w].
        batch: `task`'s inputs and target.
        adamw: the optimizer is AdamW instead of SGD with momentum.
        flops: floating-point operations of one step; 0: unknown.
    """

    name: str
    model: flax.linen.Module
    peer: Callable[[], nn.Module]
    batch: Mapping[str, np.ndarray]
    task: Task
    adamw: bool = False
    flops: float = 0.0

    @property
    def size(self) -> int:
        """The number of examples in the batch."""
        return len(self.batch["mask"])

    @property
    def parts(self) -> dict[str, Callable[[], Run]]:
        """Parts of our step that are timed alone, on one device, by their names."""
        return {}

    def ours(self, parallel=None) -> tuple[Run, int]:
        """Returns our step and the number of parameters.

        Args:
            parallel: a `training.parallel.Parallel`: all of its devices share the batch.
        """
        optimizer = optax.adamw(1e-3, **ADAMW) if self.adamw else optax.sgd(0.01, momentum=0.9)
        inputs = tuple(self.batch[name] for name in self.task.inputs)
        state = create(self.model, optimizer, inputs, jax.random.key(0))
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        step = functools.partial(train_step, model=self.model, task=self.task, optimizer=optimizer)
        if parallel:
            step = parallel.compile_train(functools.partial(step, axis_name=parallel.axis_name))
            state, (batch,) = parallel.place(state), parallel.batches([self.batch])
        else:
            step, batch = jax.jit(step, donate_argnums=0), jax.device_put(dict(self.batch))

        def run(count: int) -> None:
            nonlocal state
            for _ in range(count):
                state, metrics = step(state, batch)
                if parallel:  # fake devices on few cores block each other when several steps are in flight
                    jax.block_until_ready(metrics)
            jax.block_until_ready((state, metrics))

        return run, count

    def theirs(self, device: str = "cpu") -> tuple[Run, int]:
        """Returns the same for PyTorch eager; images are channels last on a GPU, where that is faster.

        The redundant second bias of a recurrent layer is not counted (except in the GRU's candidate).
        """
        model = self.peer().to(device)
        inputs = [torch.tensor(self.batch[name], device=device) for name in self.task.inputs]
        inputs = [x.long() if x.dtype == torch.int32 else x for x in inputs]
        is_gpu, is_half = device != "cpu", getattr(self.model, "dtype", None) == jnp.bfloat16
        if inputs[0].ndim >= 4:
            last = torch.channels_last if inputs[0].ndim == 4 else torch.channels_last_3d
            layout = last if is_gpu else torch.contiguous_format
            inputs[0] = inputs[0].movedim(-1, 1).contiguous(memory_format=layout)
            model = model.to(memory_format=layout)
        if self.adamw:
            optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True, **ADAMW)
        else:
            optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
        precision = functools.partial(torch.autocast, device, torch.bfloat16) if is_half else contextlib.nullcontext
        loss_of = self.their_loss(device)

        def run(count: int) -> None:
            for _ in range(count):
                optimizer.zero_grad()
                with precision():
                    loss = loss_of(model, inputs)
                loss.backward()
                optimizer.step()
            if is_gpu:
                torch.cuda.synchronize()

        layers = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
        spare = sum(2 * m.hidden_size if m.mode == "GRU" else m.bias_hh_l0.numel() for m in layers)
        return run, sum(p.numel() for p in model.parameters()) - spare

    def their_loss(self, device: str) -> Callable[[nn.Module, list[torch.Tensor]], torch.Tensor]:
        """Returns the loss of PyTorch's network for its inputs."""
        labels = torch.tensor(np.asarray(self.task.labels(self.batch)), device=device).long()

        def loss(model: nn.Module, inputs: list[torch.Tensor]) -> torch.Tensor:
            logits = model(*inputs)
            scored = logits[:, : labels.shape[1]] if labels.ndim == 2 else logits
            return F.cross_entropy(scored.flatten(0, -2), labels.flatten())

        return loss


@dataclasses.dataclass(frozen=True)
class Detector(Network):
    """A network that predicts boxes. The peer's loss is its own: class, L1 and GIoU of every block."""

    def their_loss(self, device: str) -> Callable[[nn.Module, list[torch.Tensor]], torch.Tensor]:
        top, left, bottom, right = np.moveaxis(self.batch["objects/bbox"], -1, 0)
        centred = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1)
        boxes, labels = (torch.tensor(x, device=device) for x in (centred, self.batch["objects/label"]))
        truth = [{"class_labels": labels[i].long(), "boxes": boxes[i]} for i in range(self.size)]
        return lambda model, inputs: model(*inputs, labels=truth).loss

    @property
    def parts(self) -> dict[str, Callable[[], Run]]:
        return {"matching": self.matching}

    def matching(self) -> Run:
        """Returns the matching of all scored blocks alone, of random costs."""
        blocks, boxes = self.model.decoder_depth, self.batch["objects/bbox"].shape[1]
        shape = (self.size, blocks, self.task.queries, boxes)
        costs = jax.device_put(np.random.default_rng(0).random(shape, np.float32))
        match = jax.jit(jax.vmap(jax.vmap(MATCHINGS[self.task.matching])))

        def run(count: int) -> None:
            for _ in range(count):
                pairs = match(costs)
            jax.block_until_ready(pairs)

        return run


def compare(runs: list[Run], rounds: int) -> np.ndarray:
    """Returns milliseconds per step [runs, rounds]; each run has one turn of about SECONDS, and 3 steps at least, per
    round.
    """

    def turn(run: Run, count: int) -> float:
        run(1)
        start = time.perf_counter()
        run(count)
        return 1e3 * (time.perf_counter() - start) / count

    for run in runs:  # compiles, and fills PyTorch's caches
        run(3)
    counts = [max(3, round(1e3 * SECONDS / turn(run, 3))) for run in runs]
    return np.array([[turn(run, count) for run, count in zip(runs, counts, strict=True)] for _ in range(rounds)]).T


def middle_half(ratios: np.ndarray) -> tuple[float, float, float]:
    """Returns the median and the quartiles."""
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return middle, low, high


def _with_mask(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return {**arrays, "mask": np.ones(len(next(iter(arrays.values()))), np.float32)}


def _tokens(vocabulary: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocabulary, shape, np.int32)


def classifier(
    name: str, shape: tuple[int, ...], model: flax.linen.Module, peer: Callable[[], nn.Module], classes: int = 10
) -> Network:
    """Returns a network over inputs of a shape, batch first."""
    inputs = np.random.default_rng(0).standard_normal(shape, np.float32)
    return Network(name, model, peer, _with_mask(image=inputs, label=_tokens(classes, shape[0])), Classification())


def patches(name: str, model: PatchNetwork, batch: int, size: int = 32) -> Network:
    """Returns a ViT, Mixer or gMLP over square images."""
    kind = type(model).__name__.lower()
    sizes = {
        "depth": model.depth,
        "width": model.width,
        "patch": model.patch[0],
        "tokens": (size // model.patch[0]) ** 2,
    }
    sizes |= {"heads": model.heads} if kind == "vit" else {}
    peer = functools.partial(getattr(peers_patches, kind), **sizes)
    return dataclasses.replace(classifier(name, (batch, size, size, 3), model, peer), adamw=True)


def unet(batch: int, size: int) -> Network:
    """Returns a U-Net with padded convolutions and batch norm, of a quarter of the published width."""
    width, depth, classes = 16, 4, 4
    model = UNet(**UNet.VARIANTS["padded"] | {"num_classes": classes, "width": width, "depth": depth})
    random = np.random.default_rng(0)
    pictures = {"image": random.standard_normal((batch, size, size, 3), np.float32)}
    pictures["label_map"] = random.integers(0, classes, (batch, size, size, 1)).astype(np.uint8)
    peer = functools.partial(peers_images.unet, width, depth, classes)
    return Network(f"U-Net {width}, {size}x{size}", model, peer, _with_mask(**pictures), Segmentation())


def detr(batch: int, size: int, boxes: int) -> Detector:
    """Returns a DETR with two stages of a ResNet and two blocks on either side, against that of transformers."""
    sizes = {"depth": 2, "decoder_depth": 2, "width": 64, "heads": 4, "mlp_width": 128, "queries": 20}
    backbone = functools.partial(ResNet, block=BasicBlock, blocks=(1, 1), width=16, norm=frozen_batch_norm)
    model = DETR(3, backbone=backbone, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, **sizes)
    random = np.random.default_rng(0)
    corners, sides = random.uniform(0, 0.6, (batch, boxes, 2)), random.uniform(0.1, 0.4, (batch, boxes, 2))
    pictures = {"image": random.standard_normal((batch, size, size, 3), np.float32)}
    pictures["objects/bbox"] = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    pictures["objects/label"] = random.integers(0, 3, (batch, boxes)).astype(np.int32)
    task = Detection(queries=model.queries, classes=("circle", "square", "triangle"))
    peer = functools.partial(peers_detection.detr, 16, 3, **sizes)
    return Detector(f"DETR {model.width}, {size}x{size}", model, peer, _with_mask(**pictures), task, adamw=True)


def recurrent(kind: str, batch: int, steps: int, units: int) -> Network:
    """Returns a layer "LSTM", "GRU" or "RNN" and a head on its last output."""
    model = RecurrentClassifier(cell=CELLS[kind], widths=(units,))
    peer = functools.partial(peers.recurrent, kind, units, units, 10)
    return classifier(f"{kind} {units}, {steps} steps", (batch, steps, units), model, peer)


def convolutional(batch: int) -> list[Network]:
    """Returns networks of images of 32x32 and 10 classes."""
    grey, colour, depths = (batch, 32, 32, 1), (batch, 32, 32, 3), DEPTHS["11"]
    lenet = LeNet5(**LeNet5.VARIANTS["full"], activation=flax.linen.tanh)
    vgg = VGG(10, depths, hidden=(), pooled=1)
    densenet = DenseNet(10, (6, 6, 6), growth=12, stem_width=24, small=True)
    convnext = ConvNeXt(10, (2, 2, 2), width=48, patch=2)
    return [
        classifier("LeNet-5, 32x32", grey, lenet, peers_images.lenet),
        classifier("VGG-11, 32x32", colour, vgg, functools.partial(peers_images.vgg, depths)),
        classifier("DenseNet-BC 40, 32x32", colour, densenet, lambda: peers_images.densenet((6, 6, 6), 12)),
        classifier("ConvNeXt 48, 32x32", colour, convnext, lambda: peers_images.convnext((2, 2, 2), 48, 2)),
    ]


def video(batch: int, time: int, side: int) -> list[Network]:
    """Returns R3D-18 and torchvision's R(2+1)D-18."""
    shape, variants = (batch, time, side, side, 3), {"R3D-18": False, "R(2+1)D-18": True}
    found = []
    for name, is_factorised in variants.items():
        fields = VideoResNet.VARIANTS[f"{name} torchvision" if is_factorised else name]
        peer = functools.partial(peers_video.resnet, is_factorised, 10)
        network = classifier(f"{name}, {time}x{side}x{side}", shape, VideoResNet(**fields | {"num_classes": 10}), peer)
        found.append(network)
    return found


def temporal(batch: int, samples: int) -> list[Network]:
    """Returns networks of convolutions over time: a TCN of 400 steps, a WaveNet on an eighth of the batch and half of
    the samples, and a residual network of sounds.
    """
    adding, waves = ((24,) * 8, 8), (32, (1, 1, 1, 1))
    speech = WaveNet(num_classes=257, width=32, skip=64, dilations=tuple(2**i for i in range(8)) * 2, conditions=10)
    tcn = functools.partial(peers_convolution.tcn, 2, *adding, 10)
    sound = WaveResNet(width=waves[0], blocks=waves[1])
    peer = functools.partial(peers_convolution.wave_resnet, *waves, 10)
    return [
        classifier("TCN 24, 400 steps", (batch, 400, 2), TCNClassifier(10, *adding), tcn),
        wavenet(f"WaveNet 32, {samples // 2} samples", speech, -(-batch // 8), samples // 2),
        classifier(f"ResNet of {samples} samples", (batch, samples), sound, peer),
    ]


def ft_transformer(batch: int) -> Network:
    """Returns an FT-Transformer on 16 columns of numbers."""
    peer = functools.partial(peers.ft_transformer, 3, 16, 10)
    return classifier("FT-Transformer, 16 columns", (batch, 16), FTTransformer(), peer)


def gpt(name: str, model: GPT, batch: int) -> Network:
    """Returns a GPT with learned positions on full contexts; FLOP by nanoGPT's formula."""
    vocabulary = -(-model.vocab_size // model.pad_vocabulary) * model.pad_vocabulary
    sizes = {field: getattr(model, field) for field in ("context", "depth", "width", "heads", "bias", "dropout")}
    gelu = "tanh" if model.activation is gelu_tanh else "none"
    peer = functools.partial(peers_attention.GPT, vocabulary, gelu=gelu, **sizes)
    with torch.device("meta"):
        parameters = sum(leaf.numel() for leaf in peer().parameters()) - model.context * model.width
    flops = 6 * parameters + 12 * model.depth * model.width * model.context
    tokens = _tokens(model.vocab_size, batch, model.context + 1)
    text = _with_mask(tokens=tokens[:, :-1], labels=tokens[:, 1:])
    return Network(name, model, peer, text, TokenClassification(), True, flops * batch * model.context)


def transformer(name: str, model: Transformer, batch: int, length: int) -> Network:
    """Returns a post-norm Transformer, on sources of `length` / 2 to `length` tokens and targets of `length`."""
    sizes = {field: getattr(model, field) for field in ("depth", "width", "heads", "mlp_width", "dropout")}
    peer = functools.partial(peers_attention.Transformer, model.num_classes, length, **sizes)
    lengths = length // 2 + _tokens(length // 2 + 1, batch)
    texts = {"source": _tokens(model.num_classes, batch, length), "source_lengths": lengths}
    texts = _with_mask(**texts, target=_tokens(model.num_classes, batch, length))
    task = TokenClassification(inputs=("source", "source_lengths", "target"), target="target", shift=1)
    return Network(name, model, peer, texts, task, True)


def bert(name: str, model: BERT, batch: int, length: int) -> Network:
    """Returns a masked language model on texts of `length` / 2 to `length` tokens, 15% of which are predicted."""
    sizes = {field: getattr(model, field) for field in ("context", "depth", "width", "heads", "dropout")}
    peer = functools.partial(peers_attention.BERT, model.vocab_size, **sizes)
    texts = {"tokens": _tokens(model.vocab_size, batch, length)}
    texts |= {"tokens_lengths": length // 2 + _tokens(length // 2 + 1, batch), "segments": _tokens(2, batch, length)}
    places = -(-length * 15 // 100)
    texts |= {"places": _tokens(length, batch, places), "labels": _tokens(model.vocab_size, batch, places)}
    return Network(name, model, peer, _with_mask(**texts), MaskedTokens(), True)


def textcnn(name: str, model: TextCNN, batch: int, length: int) -> Network:
    """Returns a convolutional classifier of texts of `length` words."""
    sizes = (model.vocab_size, model.embedding_width, model.windows, model.filters, model.dropout, model.num_classes)
    peer = functools.partial(peers.TextCNN, *sizes)
    texts = {"text": _tokens(model.vocab_size, batch, length), "text_lengths": np.full(batch, length, np.int32)}
    task = Classification(inputs=("text", "text_lengths"))
    return Network(name, model, peer, _with_mask(**texts, label=_tokens(model.num_classes, batch)), task)


def wavenet(name: str, model: WaveNet, batch: int, length: int) -> Network:
    """Returns a WaveNet on codes, with a class as condition."""
    sizes = (model.num_classes, model.width, model.skip, model.dilations, model.conditions, model.condition_width)
    sounds = _with_mask(label=_tokens(model.conditions, batch), codes=_tokens(model.num_classes, batch, length))
    task = TokenClassification(inputs=("label", "codes"), target="codes", shift=1)
    return Network(name, model, functools.partial(peers_convolution.WaveNet, *sizes), sounds, task, True)
