"""Converts the parameters of a scanned trunk (`layers.trunk.Trunk`) to those of an unrolled one, and back.

With k kinds of blocks, turn t of `blocks/blockJ/PATH` [turns, ...] is `block(t k + J)/PATH` [...].
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Array

Flat = dict[str, np.ndarray | Array]  # path, such as "trunk/block1/attention/layer/query/kernel" -> value

_STACKED = re.compile(r"(|.*?/)blocks/block(\d+)/(.*)")
_SINGLE = re.compile(r"(|.*?/)block(\d+)/(.*)")


def unstacked(params: Mapping[str, np.ndarray | Array]) -> Flat:
    """Returns flat parameters with one path for each block of every scanned trunk; other paths stay."""
    kinds, result = _kinds(params), {}
    for path, value in params.items():
        if found := _STACKED.fullmatch(path):
            trunk, kind, rest = found.groups()
            for turn in range(len(value)):
                result[f"{trunk}block{turn * kinds[trunk] + int(kind)}/{rest}"] = value[turn, ...]
        else:
            result[path] = value
    return result


def stacked(params: Mapping[str, np.ndarray | Array], like: Iterable[str]) -> Flat:
    """Returns flat parameters of unrolled trunks, with those stacked that are scanned in the paths `like`. Blocks that
    differ in shape stay as they are."""
    kinds, result = _kinds(like), {}
    blocks: dict[str, dict[int, tuple[str, np.ndarray | Array]]] = defaultdict(dict)
    for path, value in params.items():
        found = _SINGLE.fullmatch(path)
        if found and found[1] in kinds:
            turn, kind = divmod(int(found[2]) - 1, kinds[found[1]])
            blocks[f"{found[1]}blocks/block{kind + 1}/{found[3]}"][turn] = path, value
        else:
            result[path] = value
    for path, turns in blocks.items():
        if sorted(turns) == list(range(len(turns))) and len({value.shape for _, value in turns.values()}) == 1:
            result[path] = np.stack([np.asarray(turns[turn][1]) for turn in sorted(turns)])
        else:
            result |= dict(turns.values())
    return result


def _kinds(paths: Iterable[str]) -> dict[str, int]:
    """Returns the number of kinds of blocks of each scanned trunk, by the path before `blocks/`."""
    kinds: dict[str, int] = {}
    for found in filter(None, map(_STACKED.fullmatch, paths)):
        kinds[found[1]] = max(kinds.get(found[1], 0), int(found[2]))
    return kinds
