"""Calls that a config writes as text: "padded_crop(padding=4)", "words(size=8000)"."""

import ast
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from data.errors import UserError, nearest


def parse_call(text: str, where: str) -> tuple[str, tuple, dict]:
    """Splits "name(1, key=2)" into name, arguments and keyword arguments, all literals; "name" has none.

    Raises UserError with `where` for anything else.
    """
    try:
        node = ast.parse(text, mode="eval").body
        function, args, keywords = (
            (node.func, node.args, node.keywords) if isinstance(node, ast.Call) else (node, [], [])
        )
        if not isinstance(function, ast.Name | ast.Attribute):
            raise ValueError
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
        return ast.unparse(function), tuple(map(ast.literal_eval, args)), arguments
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"{where} {text!r} must be a name or a call with literal arguments, such as 'f(x=1)'"
        ) from error


def call(module: ModuleType, text: str, where: str, kind: Callable[[Any], bool] = inspect.isfunction) -> Any:
    """Returns what a call of one of the public functions, or what else is of the `kind`, that `module` defines gives.

    Raises UserError with `where` for another function (naming the nearest), arguments that are missing or too many, and
    what the function refuses.
    """
    name, args, kwargs = parse_call(text, where)
    functions = {
        function_name: function
        for function_name, function in vars(module).items()
        if kind(function) and function.__module__ == module.__name__ and function_name[0] != "_"
    }
    if name not in functions:
        raise UserError(f"{where} {name!r} does not exist: {nearest(name, functions)}")
    check_arguments(functions[name], text, where, args, kwargs, partial=False)
    return make(functions[name], text, where, args, kwargs)


def check_arguments(target: Any, text: str, where: str, args: tuple, kwargs: dict, *, partial: bool) -> None:
    """Raises UserError where `target` does not take the arguments; if not `partial`, also where some are missing."""
    signature = inspect.signature(target)
    try:
        (signature.bind_partial if partial else signature.bind)(*args, **kwargs)
    except TypeError as error:
        name = text.partition("(")[0].rpartition(".")[-1]
        raise UserError(f"{where} {text!r}: {error}; {name} takes {', '.join(signature.parameters)}") from error


def make(target: Any, text: str, where: str, args: tuple, kwargs: dict) -> Any:
    """Returns target(*args, **kwargs). Raises UserError where it refuses their values."""
    try:
        return target(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} {text!r}: {error}") from error
