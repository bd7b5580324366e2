"""Finds the place in a user's own code at which an error happened.

In each function, `belongs` decides whether a file, given by its path, is a part of that code.
"""

import traceback
from collections.abc import Callable
from traceback import FrameSummary

# errors that a mistake in code raises, and unsuitable inputs rarely do
BUGS = (AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, RecursionError)


def frames(error: BaseException, belongs: Callable[[str], bool]) -> list[FrameSummary]:
    """Returns the calls that led to the error, from the first call in the user's code to the last one; [] if the error
    happened outside that code.
    """
    found = list(traceback.extract_tb(error.__traceback__))
    first = next((number for number, frame in enumerate(found) if belongs(frame.filename)), len(found))
    return found[first:]


def place(error: BaseException, belongs: Callable[[str], bool]) -> str:
    """Returns the file and the line of the last call in the user's code, as "FILE.py, line 12"; "" if the error
    happened outside that code.
    """
    if isinstance(error, SyntaxError) and belongs(error.filename or ""):
        return f"{error.filename}, line {error.lineno}"
    lines = [frame for frame in frames(error, belongs) if belongs(frame.filename)]
    return f"{lines[-1].filename}, line {lines[-1].lineno}" if lines else ""


def trace(error: BaseException, belongs: Callable[[str], bool]) -> str:
    """Returns the text of the traceback, which begins with the first call in the user's code."""
    lines = traceback.format_list(frames(error, belongs)) + traceback.format_exception_only(error)
    return "".join(["Traceback (most recent call last):\n", *lines])
