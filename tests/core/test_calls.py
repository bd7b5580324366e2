"""The syntax of calls in a config."""

import pytest

from core.calls import Call, Name, parse, parse_argument, source
from core.errors import UserError


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("nn.relu", Name("nn.relu")),
        ("flip()", Call("flip", (), {})),
        ("f(-1, 'nn.relu')", Call("f", (-1, "nn.relu"), {})),
        (" f(x=nn.relu) ", Call("f", (), {"x": Name("nn.relu")})),
        ("a.F(g=b.G(1, h=None))", Call("a.F", (), {"g": Call("b.G", (1,), {"h": None})})),
        ("f((1, nn.relu), {'a': 1})", Call("f", ((1, Name("nn.relu")), {"a": 1}), {})),
    ],
)
def test_trees(text, tree):
    assert parse(text, "x") == tree and type(parse(text, "x")) is type(tree)
    assert parse(source(tree), "x") == tree


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "'f'",
        "f(",
        "f()()",
        "f().g",
        "f()[0]",
        "f(*a)",
        "f(**a)",
        "f(lambda: 1)",
        "f(1 + x)",
        "[f()]",
        "f([g()])",
    ],
    ids=str,
)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(UserError, match=r"^config\.x ") as refusal:
        parse(text, "config.x")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("2", 2),
        ("(1, 0.5)", (1, 0.5)),
        ("'image'", "image"),
        ("bpe(4000)", Call("bpe", (4000,), {})),
        ("nn.relu", Name("nn.relu")),
        ("true", True),
    ],
)
def test_single_arguments(text, tree):
    assert parse_argument(text, "x") == tree and parse_argument(source(tree), "x") == tree
    with pytest.raises(UserError, match=r"^x .*a string needs quotes"):
        parse_argument(f"{text} 1", "x")


def test_a_number_is_refused_too():
    with pytest.raises(UserError, match=r"config\.x 1 must be"):
        parse(1, "config.x")
