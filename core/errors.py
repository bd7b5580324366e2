"""The exception that a user's mistake raises, and the end of its message: the nearest valid name."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave (key, name, file, shape): shown as one line, exit code 2, never a traceback."""


def nearest(name: str, options: Iterable[str], limit: int = 12) -> str:
    """Returns the end of an error message: the option closest to `name`, or else a list of the options."""
    options = sorted(map(str, options))
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(options[:limit]) + (", ..." if len(options) > limit else "")
    return f"there are: {listed}" if options else "there are none"
