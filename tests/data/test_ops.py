"""The contract of preprocess ops, tested for every op in the folder."""

import dataclasses
import importlib
import inspect

import pytest

from core import names
from data.preprocess import pipeline
from data.preprocess.op import Op
from data.preprocess.tokenizers import Characters

OPS = pipeline.operations()
MADE_UP = ("key", 4, ("key",), Characters())  # an argument without a default gets the first that has its type
STATES = ({}, [], "", None)


def made(cls: type[Op]) -> Op:
    """Returns an op with made-up values for the arguments that have no default."""
    hints, args, kwargs = names.annotations(cls), [], {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.append("key")
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs["new"] = "key"
        elif parameter.default is parameter.empty:
            kwargs[name] = next(value for value in MADE_UP if names.fits(value, hints[name]))
    return cls(*args, **kwargs)


@pytest.mark.parametrize("name", OPS)
def test_an_op(name):
    cls = OPS[name]
    assert cls.__dataclass_params__.frozen and names.snake_case(cls.__name__) == name
    assert inspect.getdoc(cls) and inspect.getdoc(cls) != inspect.getdoc(Op)
    assert all(names.annotations(cls).get(field.name) for field in dataclasses.fields(cls)), (
        "arguments are checked by type"
    )
    op = made(cls)
    assert op == made(cls)
    if op.touched is not None:
        chunk = {"other": [1, 2]}
        hint = names.annotations(type(op).__call__).get("state", object)
        state = next(state for state in STATES if names.fits(state, hint))
        assert op(dict(chunk), state) == chunk, "a chunk without its keys stays as it is"
        assert "other" not in op.touched


def test_names_are_unique():
    modules = map(importlib.import_module, names._files("data.preprocess"))
    classes = {cls for module in modules for cls in names.defined(module, inspect.isclass).values()}
    assert len({cls for cls in classes if issubclass(cls, Op)} - {Op}) == len(OPS) > 5
