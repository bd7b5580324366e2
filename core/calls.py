"""Calls that a config holds as text, "padded_crop(padding=4)": their syntax, without the objects that they name."""

import ast
from typing import Any, NamedTuple

from core.errors import UserError


class Name(NamedTuple):
    """A dotted name, such as `nn.relu`."""

    name: str


class Call(NamedTuple):
    """A call: `args` and `kwargs` hold literals, Names, Calls, or tuples of them."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse(text: Any, where: str) -> Name | Call:
    """Returns the tree of "name" or "name(1, key=other.name, third=inner(2))"; quoted strings are literals.

    Raises UserError, which begins with `where`, for any other text or object.
    """
    try:
        tree = _node(ast.parse(text.strip(), mode="eval").body)
        if not isinstance(tree, Name | Call):
            raise ValueError
    except (SyntaxError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        message = f"{where} {text!r} must be a name or a call of literals, names and calls, such as 'f(x=1, g=h(2))'"
        raise UserError(message) from error
    return tree


def parse_argument(text: str, where: str) -> Any:
    """Returns the tree of the text of one argument: a literal, name, call, or tuple of them; "true" is True.

    Raises UserError, which begins with `where`, for any other text.
    """
    try:
        return _node(ast.parse({"true": "True", "false": "False"}.get(text.strip(), text.strip()), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where} {text!r} is not a literal, name or call: a string needs quotes inside") from error


def source(node: Any) -> str:
    """Returns the text of a tree, as Python writes it: the inverse of `parse`."""
    match node:
        case Name():
            return node.name
        case Call():
            items = [*map(source, node.args), *(f"{key}={source(value)}" for key, value in node.kwargs.items())]
            return f"{node.name}({', '.join(items)})"
        case tuple():
            return f"({', '.join(map(source, node))}{',' * (len(node) == 1)})"
    return repr(node)


def _node(node: ast.expr) -> Any:
    """Returns the tree of one expression. Raises ValueError for all but names, calls, tuples and literals."""
    match node:
        case ast.Name(id="inf" | "nan"):
            return float(node.id)
        case ast.Name() | ast.Attribute():
            return Name(_dotted(node))
        case ast.Call():
            if any(keyword.arg is None for keyword in node.keywords):
                raise ValueError("** is not a literal")
            kwargs = {str(keyword.arg): _node(keyword.value) for keyword in node.keywords}
            return Call(_dotted(node.func), tuple(map(_node, node.args)), kwargs)
        case ast.Tuple():
            return tuple(map(_node, node.elts))
    return ast.literal_eval(node)


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError("not a dotted name")
