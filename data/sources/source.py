"""Base class of sources: named splits of examples, cut by TFDS's own syntax ("train[:80%]+test")."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from core.errors import UserError, nearest
from core.vocabulary import Vocabulary


class Source:
    """A data set on disk: a table has `frame`, any other set `examples`.

    Attributes:
        splits: the available splits, for `resolve`.
        classes: names of the values of `label`; () if the set does not define them.
        names: key of a list of classes -> their names.
        vocabularies: key of token ids -> their vocabulary.
        images: keys that hold images.
        ragged: keys whose first axis varies from example to example.
        is_table: every example is a row of scalars.
    """

    splits: Mapping[str, tfds.core.SplitInfo]
    classes: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    vocabularies: Mapping[str, Vocabulary] = MappingProxyType({})
    images: frozenset[str] = frozenset()
    ragged: frozenset[str] = frozenset()
    is_table: bool = False

    def examples(self, spec: str) -> Sequence[Any]:
        """Returns the examples of a split expression, by random access."""
        raise NotImplementedError

    def frame(self, spec: str) -> pd.DataFrame:
        """Returns the rows of a split expression of a table."""
        raise NotImplementedError


def sizes_as_splits(sizes: Mapping[str, int]) -> dict[str, tfds.core.SplitInfo]:
    """Returns TFDS's description of splits of these sizes."""
    return {name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0) for name, size in sizes.items()}


def resolve(spec: str, splits: Mapping[str, tfds.core.SplitInfo]) -> list[tuple[str, int, int]]:
    """Returns the parts (split, start, stop) of a split expression.

    Raises:
        UserError: a syntax error, an unknown split or an empty selection; the message lists the splits and sizes.
    """
    available = ", ".join(f"{name} ({info.num_examples})" for name, info in splits.items())
    try:
        absolute = tfds.core.ReadInstruction.from_spec(spec).to_absolute(splits)
    except (ValueError, NotImplementedError) as error:
        names = [part.split("[")[0].strip() for part in spec.split("+")]
        unknown = [name for name in names if name not in splits]
        hint = f"; {_advice(unknown[0], splits)}" if unknown else ""
        reason = f"no split {unknown[0]!r}" if unknown else str(error).strip().splitlines()[-1]
        raise UserError(f"data.splits: {spec!r}: {reason}; there are: {available}{hint}") from error
    parts = [(a.splitname, a.from_ or 0, splits[a.splitname].num_examples if a.to is None else a.to) for a in absolute]
    if not any(stop > start for _, start, stop in parts):
        raise UserError(f"data.splits: {spec!r} selects no example; there are: {available}")
    return parts


def _advice(unknown: str, splits: Mapping[str, Any]) -> str:
    """Returns advice for an unknown split: the nearest name, or a slice of another split if it is not a typo."""
    if unknown not in ("validation", "test"):
        return nearest(unknown, splits)
    first = next(iter(splits))
    return (
        f"cut one into parts (--config.data.splits.train='{first}[:80%]' --config.data.splits.{unknown}="
        f"'{first}[80%:]'), or leave it out (--config.data.splits.{unknown}=)"
    )


def shuffled(size: int) -> np.ndarray:
    """Returns the fixed order of the rows of the user's own files, so that slices of a sorted file are random samples
    (TFDS does the same when it prepares a set)."""
    return np.random.default_rng(0).permutation(size)
