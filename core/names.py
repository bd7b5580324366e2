"""Resolves the names and calls of a config to objects: `resnet.CifarResNet` is class CifarResNet of arch/resnet.py.

A config may come from somebody else, so a name reaches only two places: the public functions and classes of the files
of one package, and those of Flax and JAX that `OUTSIDE` lists. A name never leads through another module or an object.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from beartype.door import is_bearable
from beartype.roar import BeartypeException

from core.calls import Call, Name, parse, source
from core.errors import UserError, nearest

OUTSIDE = {"nn.initializers": "flax.linen.initializers", "nn": "flax.linen", "jnp": "jax.numpy", "jax.nn": "jax.nn"}
CALLED = "nn.initializers"  # the only outside functions that a config may call: others may work on files
LIBRARIES = ("flax", "jax", "jaxlib")
WITH_FILES = ("fromfile", "load", "save", "savez")  # functions of jnp
SHARES = ("drop", "smoothing", "probability")  # parts of the names of numbers from 0 to 1
SIZES = (
    "blocks",
    "depth",
    "filters",
    "growth",
    "heads",
    "kernel",
    "length",
    "patch",
    "queries",
    "rank",
    "size",
    "units",
    "width",
)
DTYPES = ("float32", "bfloat16", "float16")

Find = Callable[[str, str], Any]  # (name, where) -> object; raises UserError


def resolve(text: str, package: str, where: str, hint: Any = typing.Any) -> Any:
    """Returns the object of `text`: "nn.gelu", "resnet.Block" of arch/resnet.py, "nn.initializers.normal(0.02)".

    A call returns a `functools.partial` if it names a class or lacks arguments, and the function's result otherwise. If
    `hint` is a class, a call that names a class returns its instance. Arguments may be names and calls themselves.

    Raises UserError for an unknown name (suggests the nearest), or an argument of a wrong name or type.
    """
    return evaluate(parse(text, where), functools.partial(find, package), where, hint)


def call(module: types.ModuleType, text: str, where: str, kind: Callable[[Any], bool] = inspect.isfunction) -> Any:
    """Returns the result of a call, such as "flip()", of a public function (or object of `kind`) that `module` defines.

    Raises UserError as `call_option`.
    """
    return call_option(defined(module, kind), text, where)


def call_option(
    options: Mapping[str, Any], text: str, where: str, inner: Mapping[str, Any] = types.MappingProxyType({})
) -> Any:
    """Returns the result of a call of one of `options`, name -> function or class.

    Args:
        inner: further names, which arguments of the call may name and call.

    Raises UserError for an unknown name (suggests the nearest), arguments that are missing, unknown or of a wrong type,
    and values that the function rejects.
    """

    def find_option(choices: Mapping[str, Any], name: str, where: str) -> Any:
        if name not in choices:
            raise UserError(f"{where} {name!r} does not exist: {nearest(name, choices)}")
        return choices[name]

    tree = parse(text, where)
    target = find_option(options, tree.name, where)
    args, kwargs = arguments(target, tree, functools.partial(find_option, {**options, **inner}), where)
    return _make(target, tree, args, kwargs, where)


def defined(module: types.ModuleType, kind: Callable[[Any], bool] = inspect.isfunction) -> dict[str, Any]:
    """Returns name -> public function (or object of `kind`) that `module` defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if kind(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


@functools.cache
def subclasses(package: str, base: type) -> dict[str, type]:
    """Returns the public classes that derive from `base` in the files of a package, by their names in snake case."""
    found = {}
    for path in _files(package):
        for cls in defined(importlib.import_module(path), inspect.isclass).values():
            if issubclass(cls, base) and cls is not base:
                found[snake_case(cls.__name__)] = cls
    return found


def snake_case(name: str) -> str:
    """Returns "padded_crop" for "PaddedCrop"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def evaluate(tree: Any, find: Find, where: str, hint: Any = typing.Any) -> Any:
    """Returns the object of a tree of `core.calls`, checked against the annotation `hint`; see `resolve`."""
    match tree:
        case Name():
            value = find(tree.name, where)
        case Call():
            value = _call(find(tree.name, where), tree, find, where, hint)
        case tuple() if any(isinstance(item, Name | Call | tuple) for item in tree):
            is_tuple = typing.get_origin(hint) is tuple and typing.get_args(hint)[1:] == (...,)
            item_hint = typing.get_args(hint)[0] if is_tuple else typing.Any
            value = tuple(evaluate(item, find, where, item_hint) for item in tree)
        case _:
            value = tree
    return convert(value, hint, where)


def _call(target: Any, tree: Call, find: Find, where: str, hint: Any) -> Any:
    args, kwargs = arguments(target, tree, find, where)
    takes_callable = fits(print, hint)
    try:
        inspect.signature(target).bind(*args, **kwargs)
    except TypeError:
        complete = False
    else:
        complete = True
    if (not complete or inspect.isclass(target)) and takes_callable:
        return functools.partial(target, *args, **kwargs)
    outside = tree.name.partition(".")[0] in (path.partition(".")[0] for path in OUTSIDE)
    if outside and not inspect.isclass(target) and tree.name.rpartition(".")[0] != CALLED:
        raise UserError(f"{where} {tree.name!r} may be named, but not called: only {CALLED} and classes may be called")
    return _make(target, tree, args, kwargs, where)


def _make(target: Any, tree: Name | Call, args: tuple, kwargs: dict, where: str) -> Any:
    """Returns target(*args, **kwargs). Raises UserError if it lacks arguments or rejects their values."""
    try:
        inspect.signature(target).bind(*args, **kwargs)
        return target(*args, **kwargs)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{where} {_shown(tree)}: {error}; {_takes(target)}") from error


def arguments(target: Any, tree: Name | Call, find: Find, where: str) -> tuple[tuple, dict[str, Any]]:
    """Returns the arguments of a call as objects. Raises UserError for an unknown name, or a value of a wrong type."""
    if isinstance(tree, Name):
        return (), {}
    try:
        inspect.signature(target).bind_partial(*tree.args, **tree.kwargs)
    except TypeError as error:
        raise UserError(f"{where} {_shown(tree)}: {error}; {_takes(target)}") from error
    hints = annotations(target)
    named = parameters(target)
    for key in tree.kwargs:
        if key not in named and not any(p.kind is p.VAR_KEYWORD for p in named.values()):
            raise UserError(f"{where} {_shown(tree)}: unexpected keyword argument {key!r}; {_takes(target)}")
    positional = [p.name for p in named.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = [p.name for p in named.values() if p.kind is p.VAR_POSITIONAL] * len(tree.args)

    def value(key: str, node: Any) -> Any:
        return evaluate(node, find, f"{where} {tree.name}.{key}", hints.get(key, typing.Any))

    args = tuple(value(key, node) for key, node in zip(positional + rest, tree.args, strict=False))
    kwargs = {key: value(key, node) for key, node in tree.kwargs.items()}
    check_sizes(target, dict(zip(positional, args, strict=False)) | kwargs, f"{where} {tree.name}")
    return args, kwargs


def check_sizes(target: Any, values: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a size among arguments of `target`, such as a width, below 1. Numbers of blocks, and a size
    whose default is 0, may be 0.
    """
    named = parameters(target)
    for key in [key for key in values if key in named and any(word in key for word in SIZES)]:
        sizes = values[key] if isinstance(values[key], tuple) else (values[key],)
        least = 0 if key in ("depth", "num_blocks") or named[key].default == 0 else 1
        if any(type(size) is int and size < least for size in sizes):
            raise UserError(f"{where}.{key} must be at least {least}, not {values[key]}")


def parameters(target: Any) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a callable, including those of `**kwargs: Unpack[Kwargs]`.

    A Flax module's `parent` and `name` are left out: they are not for configs.
    """
    found = dict(inspect.signature(target).parameters)
    if {"parent", "name"} <= set(found):
        del found["parent"], found["name"]
    for name, keywords in _unpacked(_hints(target)).items():
        del found[name]
        found |= {key: inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY) for key in keywords}
    return found


def annotations(target: Any) -> dict[str, Any]:
    """Returns the annotation of each parameter; empty if they name types that only a type checker imports."""
    found = _hints(target)
    for keywords in _unpacked(found).values():
        found = found | keywords
    return found


def _hints(target: Any) -> dict[str, Any]:
    try:
        is_plain = inspect.isclass(target) and not dataclasses.is_dataclass(target)
        return typing.get_type_hints(target.__init__ if is_plain else target)
    except (TypeError, NameError):
        return {}


def _unpacked(hints: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns, for each `**name: Unpack[Kwargs]`, the annotations of the keys of `Kwargs`."""
    return {
        name: typing.get_type_hints(typing.get_args(hint)[0])
        for name, hint in hints.items()
        if typing.get_origin(hint) is typing.Unpack
    }


def _shown(tree: Name | Call) -> str:
    """Returns the quoted call as Python writes it, for an error message."""
    return repr(source(tree))


def _takes(target: Any) -> str:
    return f"{getattr(target, '__name__', 'it')} takes {', '.join(parameters(target)) or 'no arguments'}"


def convert(value: Any, hint: Any, where: str) -> Any:
    """Returns `value` converted for an annotated parameter: an integer becomes a float, "float16" a dtype.

    Raises UserError for a value of another type.
    """
    if isinstance(value, str) and where.rpartition(".")[2] == "dtype":
        if value not in DTYPES:
            raise UserError(f"{where} {value!r} is not one of the dtypes {', '.join(DTYPES)}")
        return importlib.import_module("jax.numpy").dtype(value)
    for candidate in (value, _with_floats(value)):
        if fits(candidate, hint):
            if float in (hint, *typing.get_args(hint)):
                _check_share(candidate, where)
            return candidate
    shown = " ".join(repr(value).split())  # a module's repr has many lines
    if typing.get_origin(hint) is typing.Literal:
        options = ", ".join(map(repr, typing.get_args(hint)))
        raise UserError(f"{where} must be one of {options}, not {shown}")
    wanted = hint if typing.get_args(hint) else getattr(hint, "__name__", hint)
    wanted = "a function" if typing.get_origin(hint) is Callable else wanted
    raise UserError(f"{where} must be {wanted}, not {type(value).__name__} {shown}")


def _check_share(value: Any, where: str) -> None:
    """Raises UserError for a share, such as a dropout rate, outside [0, 1]."""
    is_share = isinstance(value, float) and any(word in where.rpartition(".")[2] for word in SHARES)
    if is_share and not 0 <= value <= 1:
        raise UserError(f"{where} must be from 0 to 1, not {value}")


def _with_floats(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_with_floats, value))
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def fits(value: Any, hint: Any) -> bool:
    """Returns whether a value has the type `hint`.

    Unlike beartype's `is_bearable`, it checks every item of a tuple instead of a random one, and does not accept a bool
    as a number, or a class as a function of given arguments.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is tuple and isinstance(value, tuple) and typing.get_args(hint)[1:] == (...,):
        return all(fits(item, typing.get_args(hint)[0]) for item in value)
    if isinstance(value, bool) and hint in (int, float):
        return False
    if inspect.isclass(value) and typing.get_origin(hint) is Callable:  # calling a class makes an object, not an array
        return typing.get_args(hint)[0] is Ellipsis
    try:
        return is_bearable(value, hint)
    except BeartypeException:  # an annotation that beartype cannot check
        return True


def takes_objects(hint: Any) -> bool:
    """Whether an annotation accepts functions, classes, or instances of other classes than Python's own."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return any(
        fits(print, option)
        or typing.get_origin(option) is type
        or (inspect.isclass(option) and option.__module__ != "builtins")
        for option in options
    )


def find(package: str, name: str, where: str) -> Any:
    """Returns the function or class of a dotted name: "FILE.Thing" of `package`, or one in a module of `OUTSIDE`.

    Raises UserError for any other name, and suggests the nearest.
    """
    path, _, last = name.rpartition(".")
    if path in OUTSIDE:
        module, libraries = importlib.import_module(OUTSIDE[path]), LIBRARIES
    elif path and f"{package}.{path}" in _files(package):
        module, libraries = importlib.import_module(f"{package}.{path}"), (package,)
    else:
        module, libraries = None, ()
    if module and last not in WITH_FILES and _is_public(last, vars(module).get(last), libraries):
        return vars(module)[last]
    options = [f"{path}.{thing}" for path in OUTSIDE for thing in _public(importlib.import_module(OUTSIDE[path]))]
    if name.partition(".")[0] not in {path.partition(".")[0] for path in OUTSIDE}:
        options = [f"{file}.{thing}" for file, thing in available(package)]
    raise UserError(f"{where} {name!r} does not exist: {nearest(name, options)}")


def _files(package: str) -> Iterator[str]:
    """Yields the dotted names of the modules of a package and its folders."""
    folder = importlib.import_module(package)
    for entry in pkgutil.walk_packages(folder.__path__, f"{package}."):
        if not entry.ispkg and not any(part.startswith("_") for part in entry.name.split(".")):
            yield entry.name


def _is_public(name: str, value: Any, libraries: tuple[str, ...]) -> bool:
    """Whether an attribute of a module is a public function or class that one of `libraries` defines."""
    if name.startswith("_") or not callable(value) or isinstance(value, types.ModuleType):
        return False
    defined = value.func if isinstance(value, functools.partial) else value
    root = (getattr(defined, "__module__", None) or "").partition(".")[0]
    return root in libraries or (isinstance(value, functools.partial) and root in LIBRARIES)


def _public(module: types.ModuleType, libraries: tuple[str, ...] = LIBRARIES) -> list[str]:
    found = vars(module).items()
    return [name for name, value in found if name not in WITH_FILES and _is_public(name, value, libraries)]


def available(package: str) -> list[tuple[str, str]]:
    """Returns (file, name) of every public function and class that the files of `package` define or share.

    A file that cannot be imported is left out: a mistake in one file must not hide a typo in the name of another.
    """
    found = []
    for path in _files(package):
        try:
            module = importlib.import_module(path)
        except Exception:  # importing runs the file's own code, which may raise anything
            continue
        found += [(path.removeprefix(f"{package}."), name) for name in _public(module, (package,))]
    return found
