"""Where in a user's own code an error happened."""

import traceback
from collections.abc import Callable
from traceback import FrameSummary

BUGS = (AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, RecursionError)


def frames(error: BaseException, belongs: Callable[[str], bool]) -> list[FrameSummary]:
    """Returns the calls from the first on whose file `belongs` to the user's code; [] if none does."""
    found = list(traceback.extract_tb(error.__traceback__))
    first = next((number for number, frame in enumerate(found) if belongs(frame.filename)), len(found))
    return found[first:]


def place(error: BaseException, belongs: Callable[[str], bool]) -> str:
    """Returns "FILE.py, line 12" of the innermost call in the user's code, "" if there is none."""
    if isinstance(error, SyntaxError) and belongs(error.filename or ""):
        return f"{error.filename}, line {error.lineno}"
    lines = [frame for frame in frames(error, belongs) if belongs(frame.filename)]
    return f"{lines[-1].filename}, line {lines[-1].lineno}" if lines else ""


def trace(error: BaseException, belongs: Callable[[str], bool]) -> str:
    """Returns the traceback of an error without the calls that led to the user's code."""
    lines = traceback.format_list(frames(error, belongs)) + traceback.format_exception_only(error)
    return "".join(["Traceback (most recent call last):\n", *lines])
