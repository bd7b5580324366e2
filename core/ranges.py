"""Checks of the numbers that a recipe gives to tasks and augment ops."""

from collections.abc import Mapping
from typing import Any

Bounds = tuple[int | float, int | float | None]  # minimum and maximum; a maximum of None is infinity


def out_of_range(fields: Any, bounds: Mapping[str, Bounds]) -> str:
    """Returns a message about the first field whose number is outside its bounds or NaN; "" if all are inside.

    Args:
        fields: an object with these attributes, such as a task or an augment op.
        bounds: name of the attribute -> its bounds.
    """
    for name, (least, most) in bounds.items():
        value = getattr(fields, name)
        if not value >= least or (most is not None and value > most):
            limits = f"at least {least}" if most is None else f"between {least} and {most}"
            return f"{name} must be {limits}, not {value}"
    return ""
