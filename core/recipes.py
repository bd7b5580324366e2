"""Recipes: Python files with a function `get_config`, named on command lines as FILE.py or FILE.py:ARGUMENT."""

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from core import traces
from core.errors import UserError, nearest

FOLDERS = ("configs", "experiments")  # searched for the nearest name of a missing file


def load(text: str) -> Any:
    """Returns the result of `get_config(ARGUMENT)` of "FILE.py:ARGUMENT", or of `get_config()` of "FILE.py".

    Raises UserError for a missing file (suggests the nearest recipe), an argument that the recipe rejects or does not
    take, and an exception in the recipe's own code, with its file and line.
    """
    path, _, argument = text.partition(":")
    if not Path(path).is_file():
        recipes = [str(file) for folder in FOLDERS for file in Path(folder).glob("[!_]*.py")]
        raise UserError(f"--config {path} does not exist: {nearest(path, recipes)}")
    try:
        get_config = getattr(_module(path), "get_config", None)
        if get_config is None:
            raise UserError("the file defines no function get_config")
        if argument and not inspect.signature(get_config).parameters:
            raise UserError(f"this recipe takes no argument: write --config={path}")
        return get_config(argument) if argument else get_config()
    except UserError as error:
        raise UserError(f"--config {text}: {error}", error.trace) from error
    except Exception as error:  # the recipe's own code may raise anything

        def in_recipe(file: str) -> bool:
            return Path(file).resolve() == Path(path).resolve()

        where, trace = traces.place(error, in_recipe) or path, traces.trace(error, in_recipe)
        raise UserError(f"--config {text}: {where}: {type(error).__name__}: {error}", trace) from error


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None:
        raise UserError("not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
