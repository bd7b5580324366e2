"""Ranges of numbers among the fields of a recipe's objects."""

from collections.abc import Mapping
from typing import Any

Bounds = tuple[int | float, int | float | None]  # least, most; None is unbounded


def out_of_range(fields: Any, bounds: Mapping[str, Bounds]) -> str:
    """Returns what is wrong with the first attribute of `fields` that is outside its bounds, or NaN; "" if none is."""
    for name, (least, most) in bounds.items():
        value = getattr(fields, name)
        if not value >= least or (most is not None and value > most):
            limits = f"at least {least}" if most is None else f"between {least} and {most}"
            return f"{name} must be {limits}, not {value}"
    return ""
