"""Recipes: Python files with a function `get_config`, named on command lines as FILE.py or FILE.py:ARGUMENT."""

import importlib.util
import inspect
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

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
        raise UserError(f"--config {text}: {error}") from error
    except Exception as error:  # the recipe's own code may raise anything
        raise UserError(f"--config {text}: {_place(error, path)}: {type(error).__name__}: {error}") from error


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None:
        raise UserError("not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _place(error: Exception, path: str) -> str:
    """Returns "FILE.py, line 12": the last line of the recipe in the traceback of the exception."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else lines[-1] if lines else "?"
    return f"{path}, line {line}"
