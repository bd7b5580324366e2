"""The exceptions that end a command without a traceback, and `nearest`, the suggestion that ends an error message."""

import difflib
import signal
import unicodedata
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in the user's input (key, name, file, shape): shown as one line, exit code 2.

    Attributes:
        trace: shown before the line: the traceback of an error in the user's own code; "" for any other mistake.
    """

    def __init__(self, message: str = "", trace: str = ""):
        super().__init__(message)
        self.trace = trace


class Diverged(RuntimeError):
    """The loss or the gradient is NaN or infinite. Exit code 1."""


class Stopped(RuntimeError):
    """SIGTERM or SIGINT arrived and the state is saved."""

    EXIT_CODE = 128 + signal.SIGTERM  # a supervisor must see that the run is not finished


def printable(text: str) -> str:
    """Returns text from a file without characters that control a terminal or that an SVG cannot hold. Tabs stay, and so
    does all that a language needs, such as spaces that do not break and joiners of letters.
    """

    def is_safe(letter: str) -> bool:
        return letter == "\t" or (unicodedata.category(letter) not in ("Cc", "Cs") and letter not in "\ufffe\uffff")

    return "".join(letter if is_safe(letter) else "\N{REPLACEMENT CHARACTER}" for letter in text)


def nearest(name: str, options: Iterable[str], limit: int = 12) -> str:
    """Returns the end of an error message: the option closest to `name`, or else a list of the options."""
    options = sorted(map(str, options))
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(options[:limit]) + (", ..." if len(options) > limit else "")
    return f"there are: {listed}" if options else "none is available"
