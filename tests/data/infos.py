"""Shorter views of an `Info` for assertions."""

from core.info import Info


def shapes(info: Info) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns key -> (shape, dtype)."""
    return {key: (record.shape, record.dtype) for key, record in info.keys.items()}


def class_names(info: Info) -> tuple[str, ...]:
    """Returns the names of the classes of the one key that has some; () if none has."""
    (names,) = {record.classes for record in info.keys.values() if record.classes} or {()}
    return names
