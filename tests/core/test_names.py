"""Names in a config become objects of a package, Flax or JAX, and nothing else."""

import functools
import sys
import types
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from arch import resnet
from arch.layers import conv, norm, recurrent
from core import names
from core.errors import UserError


class Rotary:
    """A plain class, whose instances are fields of others."""

    def __init__(self, base: float = 1e4):
        self.base = base


class Attention(nn.Module):
    heads: int
    positions: Rotary | None = None
    activation: Callable = nn.relu
    widths: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()


class Model(nn.Module):
    mixer: Callable[..., nn.Module] = Attention


@pytest.fixture(autouse=True)
def layers(monkeypatch):
    """Puts the classes of this file into arch/, as file `shown.py`."""
    module = types.ModuleType("arch.shown")
    for thing in (Rotary, Attention, Model):
        monkeypatch.setattr(thing, "__module__", "arch.shown")
        setattr(module, thing.__name__, thing)
    monkeypatch.setitem(sys.modules, "arch.shown", module)
    files = names._files
    monkeypatch.setattr(names, "_files", lambda package: [*files(package), *["arch.shown"] * (package == "arch")])
    return module


def refusal(text, hint=Callable):
    with pytest.raises(UserError) as refused:
        names.resolve(text, "arch", "config.x", hint)
    message = str(refused.value)
    assert message.startswith("config.x") and "\n" not in message
    return message


def test_names_resolve_by_their_file():
    for text, value in {
        "nn.gelu": nn.gelu,
        "jnp.tanh": jnp.tanh,
        "jax.nn.silu": jax.nn.silu,
        "nn.initializers.zeros": nn.initializers.zeros,
        "resnet.PreActivationBlock": resnet.PreActivationBlock,
        "resnet.Conv": conv.Conv,
        "layers.norm.layer_norm": norm.layer_norm,
    }.items():
        assert names.resolve(text, "arch", "x") is value


def test_a_complete_call_is_made_and_an_incomplete_one_fixes_arguments():
    init = names.resolve("nn.initializers.normal(0.5)", "arch", "x")
    assert 0.3 < float(init(jax.random.key(0), (1000,), jnp.float32).std()) < 0.7
    fixed = names.resolve("layers.norm.group_norm(groups=2)", "arch", "x")
    assert isinstance(fixed, functools.partial) and fixed.keywords == {"groups": 2}
    fixed = names.resolve("layers.norm.group_norm(scale_init=nn.initializers.zeros)", "arch", "x")
    assert fixed.keywords == {"scale_init": nn.initializers.zeros}


def test_calls_nest():
    text = "shown.Attention(heads=8, positions=shown.Rotary(base=2), activation=nn.gelu, widths=(1, 2), rates=(1, 0.5))"
    mixer = names.resolve(text, "arch", "x", Callable[..., nn.Module])
    assert isinstance(mixer, functools.partial) and mixer.func is Attention
    fields = mixer.keywords
    assert isinstance(fields["positions"], Rotary) and fields["positions"].base == 2.0
    assert fields["activation"] is nn.gelu and fields["rates"] == (1.0, 0.5)
    outer = names.resolve(f"shown.Model(mixer={text})", "arch", "x", nn.Module)
    assert isinstance(outer, Model) and outer.mixer.keywords["heads"] == 8
    assert names.resolve("layers.recurrent.LSTM(forget_bias=0)", "arch", "x").func is recurrent.LSTM


@pytest.mark.parametrize(
    "text",
    [
        "nn.module.inspect.os.system('exit 1')",
        "nn.meta.dataclasses.builtins.exec('1')",
        "nn.module.inspect",
        "nn.initializers.jnp.load",
        "nn.Module.__init__",
        "nn.Dense.apply",
        "jnp.sys",
        "jnp.save('x', 1)",
        "jnp.load('x', allow_pickle=True)",
        "jnp.zeros((1000000, 1000000))",
        "jax.nn.initializers",
        "jax.tree_util.tree_map",
        "resnet.nn.module.inspect.os.system('exit 1')",
        "resnet.functools.partial",
        "resnet.nn",
        "resnet.Array",
        "resnet.CifarResNet.setup",
        "layers.norm._moments",
        "os.system('exit 1')",
        "eval('1')",
        "__import__('os')",
        "..data.files.read",
    ],
)
def test_a_name_reaches_only_public_things_of_the_package_flax_and_jax(text):
    refusal(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nn.gellu", "did you mean 'nn.gelu'?"),
        ("resnt.CifarResNet", "did you mean 'resnet.CifarResNet'?"),
        ("layers.norm.layer_nrm", "did you mean 'layers.norm.layer_norm'?"),
        ("jax.nn.sillu", "did you mean 'jax.nn.silu'?"),
        ("layers.norm.group_norm(group=2)", "groups"),
        ("layers.norm.group_norm(scale_init=1)", "layers.norm.group_norm.scale_init must be"),
        ("layers.norm.group_norm(groups='2')", "layers.norm.group_norm.groups must be int, not str '2'"),
        ("shown.Attention(heads=2.5)", "shown.Attention.heads must be int, not float 2.5"),
        ("shown.Attention(heads=True)", "shown.Attention.heads must be int, not bool True"),
        ("shown.Attention(8, widths=(1, True))", "shown.Attention.widths must be tuple[int, ...], not tuple (1, True)"),
        ("shown.Attention(8, widths=(1, 2, 3, 4, 5, 6, 7, 'a'))", "shown.Attention.widths must be"),
        ("shown.Attention(activation='nn.relu')", "shown.Attention.activation must be"),
        ("shown.Attention(activation=nn.rellu)", "did you mean 'nn.relu'?"),
        ("shown.Attention(positions=shown.Rotary(base='a'))", "shown.Rotary.base must be float"),
        ("shown.Attention(positions=shown.Rotary)", "shown.Attention.positions must be"),
        ("shown.Attention(positions=shown.Attention(heads=2))", "shown.Attention.positions must be"),
        ("shown.Attention(parent=None)", "'parent'"),
        ("shown.Attention(1, 2, 3, 4, 5, 6, 7, 8)", "too many positional arguments"),
    ],
)
def test_slips_are_named(text, words):
    assert words in refusal(text)


def test_a_file_that_cannot_be_imported_hides_no_typo_in_another(monkeypatch):
    files = [*names._files("arch")]
    monkeypatch.setattr(names, "_files", lambda package: [*files, "arch.broken"])
    assert "'resnet.CifarResNet'" in refusal("resnt.CifarResNet")


def test_public_things_are_listed():
    assert ("resnet", "CifarResNet") in names.available("arch")
    assert ("regression", "Regression") in names.available("tasks")
    assert ("resnet", "nn") not in names.available("arch")


def test_subclasses_are_found_by_their_names_in_snake_case():
    from tasks.task import Task

    found = names.subclasses("tasks", Task)
    assert found["token_classification"].__name__ == "TokenClassification"
    assert "task" not in found
    with pytest.raises(UserError, match=r"op 'regresion' does not exist: did you mean 'regression'"):
        names.call_option(found, "regresion()", "op")
    assert names.call_option({"f": lambda x: x}, "f(g(2))", "op", {"g": lambda y: y + 1}) == 3
