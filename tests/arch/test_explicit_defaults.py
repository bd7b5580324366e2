"""Layers whose defaults differ between frameworks are not used bare in `arch/`: the choice is written out."""

import ast
from pathlib import Path

import pytest

import arch

FOLDER = Path(arch.__file__).parent
NEEDED = dict.fromkeys(("LayerNorm", "GroupNorm", "BatchNorm", "RMSNorm"), "epsilon")
NEEDED["gelu"] = "approximate"  # flax's default is the tanh approximation, PyTorch's is the exact function


def name_of(node: ast.AST) -> str:
    return getattr(node, "attr", "") or getattr(node, "id", "")


def bare(source: str) -> list[str]:
    """Returns "name, line" of every use of a key of NEEDED without the argument, in a call or in a `partial`."""
    tree = ast.parse(source)
    given = {}  # function in a call -> names of the arguments
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            function = call.args[0] if name_of(call.func) == "partial" and call.args else call.func
            given[function] = {keyword.arg for keyword in call.keywords}
    return [
        f"{name_of(node)}, line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and name_of(node) in NEEDED
        and NEEDED[name_of(node)] not in given.get(node, ())
    ]


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_layer_is_bare(path):
    assert not bare(path.read_text())


@pytest.mark.parametrize(
    "source", ["nn.LayerNorm()(x)", "nn.LayerNorm(dtype=d)", "nn.gelu(x)", "f: Any = nn.gelu", "partial(nn.gelu)"]
)
def test_bare_layers_are_found(source):
    assert bare(source)


@pytest.mark.parametrize(
    "source", ["nn.LayerNorm(epsilon=1e-6)", "f = partial(nn.gelu, approximate=True)", "nn.relu(x)"]
)
def test_explicit_layers_pass(source):
    assert not bare(source)
