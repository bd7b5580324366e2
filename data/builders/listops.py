"""ListOps: nested lists of operators on digits, generated one forest at a time."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8

from data.builders.sequences import Columns, Procedural, integers

# n: nodes of one level of the forest, c: nodes of the level below, o: operators of a level, r: trees, s: tokens

VOCABULARY = ("<pad>", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
DIGIT, OPERATOR, CLOSE = (VOCABULARY.index(token) for token in ("0", "[MIN", "]"))
OPERATOR_SHARE = 0.25  # of the nodes above the greatest depth
CHUNK = 20_000  # trees per forest
Forest = list[Int[np.ndarray, "_"]]  # per level: the number of arguments of every node, 0 = a digit; children in order


@dataclasses.dataclass(kw_only=True, eq=False)
class Parameters(tfds.core.BuilderConfig):
    """Parameters of the published generator. Lengths count digits, operators and closing brackets.

    Attributes:
        min_length, max_length: both exclusive, as published.
        max_depth: number of levels, including the digits below the last operator.
        max_args: most arguments per operator; at least 2.
        sizes: split -> number of examples.
    """

    min_length: int
    max_length: int
    max_depth: int = 10
    max_args: int = 10
    sizes: dict[str, int]


class ListOps(Procedural, skip_registration=True):
    """ListOps, `listops/small` and `listops/full`: `tokens` int32 [length], `label` the value 0..9.

    "[MAX 4 [SM 7 8 ] 3 ]" is 5: MIN, MAX, MED (median, cut to an integer), SM (sum modulo 10), nested. Tokens: 0
    "[MAX 4 [SM 7 8 ] 3 ]" is 5: MIN, MAX, MED (median, cut to an integer), SM (sum modulo 10), nested. Tokens: 0
    padding, then 0..9 [MIN [MAX [MED [SM ]. The redundant binary parentheses of the published files are left out, and
    every expression is unique. `full` has the published parameters (lengths 501 to 1999, depth 10; 96,000 for training,
    2,000 and 2,000; 20 s and 0.7 GB of memory to prepare), `small` is shorter (11 to 99, depth 4; 10,000, 1,000 and
    1,000).

    Source: N. Nangia and S. Bowman, ListOps, arXiv 1804.06028; generator's parameters of Y. Tay et al., Long Range
    Arena, arXiv 2011.04006, section 2.2.1, lra_benchmarks/data/listops.py. Generated: no licence.
    """

    name = "listops"
    BUILDER_CONFIGS = [
        Parameters(
            name="small",
            min_length=10,
            max_length=100,
            max_depth=4,
            sizes={"train": 10_000, "validation": 1_000, "test": 1_000},
        ),
        Parameters(
            name="full", min_length=500, max_length=2000, sizes={"train": 96_000, "validation": 2_000, "test": 2_000}
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(num_classes=10)
        vocabulary = {"size": len(VOCABULARY), "pad": VOCABULARY.index("<pad>")}
        return self._described({"tokens": integers(None), "label": label}, tokens=vocabulary)

    def _sizes(self) -> dict[str, int]:
        return self.builder_config.sizes

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        expressions: dict[bytes, int] = {}
        while len(expressions) < size:
            for tokens, value in zip(*draw_expressions(random, CHUNK, self.builder_config), strict=True):
                expressions.setdefault(tokens.tobytes(), int(value))
        tokens = [np.frombuffer(text, np.uint8).astype(np.int32) for text in list(expressions)[:size]]
        return {"tokens": tokens, "label": list(expressions.values())[:size]}


def draw_expressions(
    random: np.random.Generator, count: int, parameters: Parameters
) -> tuple[list[UInt8[np.ndarray, "s"]], Int[np.ndarray, "r"]]:
    """Returns tokens and values of the random trees, among `count`, whose length fits.

    The shape of a tree does not depend on its operators and digits, so these are drawn only for the kept trees.
    """
    forest = _draw_forest(random, count, parameters.max_depth, parameters.max_args)
    lengths = _lengths(forest)[0]
    forest = _keep(forest, (lengths > parameters.min_length) & (lengths < parameters.max_length))
    lengths = _lengths(forest)
    operators = [random.integers(OPERATOR, CLOSE, len(args)) for args in forest]
    digits = [random.integers(10, size=len(args)) for args in forest]
    ends = np.cumsum(lengths[0])
    tokens = np.zeros(lengths[0].sum(), np.uint8)
    position = ends - lengths[0]  # of the first token of every node
    for level, args in enumerate(forest):
        tokens[position] = np.where(args > 0, operators[level], DIGIT + digits[level])
        tokens[(position + lengths[level] - 1)[args > 0]] = CLOSE
        if level + 1 < len(forest):
            before = np.cumsum(lengths[level + 1]) - lengths[level + 1]
            first = (np.cumsum(args) - args)[args > 0]
            position = np.repeat((position + 1)[args > 0] - before[first], args[args > 0]) + before
    return np.split(tokens, ends)[:-1], _values(forest, operators, digits)


def _draw_forest(random: np.random.Generator, count: int, max_depth: int, max_args: int) -> Forest:
    forest = []
    for depth in range(1, max_depth + 1):
        args = random.integers(2, max_args, count, endpoint=True)
        args[random.random(count) > OPERATOR_SHARE] = 0
        forest.append(args if depth < max_depth else np.zeros_like(args))
        count = int(forest[-1].sum())
    return forest


def _keep(forest: Forest, kept: np.ndarray) -> Forest:
    """Returns the forest of the `kept` trees."""
    pruned = []
    for args in forest:
        pruned.append(args[kept])
        kept = np.repeat(kept, args)
    return pruned


def _over_children(
    function: np.ufunc, args: Int[np.ndarray, "n"], children: Int[np.ndarray, "c"]
) -> Int[np.ndarray, "o"]:
    """Returns the reduction over the children of every operator of a level."""
    first = (np.cumsum(args) - args)[args > 0]
    return function.reduceat(children, first) if len(first) else np.zeros(0, np.int64)


def _lengths(forest: Forest) -> Forest:
    """Returns for every node the number of tokens of its subtree."""
    lengths, below = [], np.zeros(0, np.int64)
    for args in reversed(forest):
        here = np.ones(len(args), np.int64)
        here[args > 0] = 2 + _over_children(np.add, args, below)
        lengths.append(here)
        below = here
    return lengths[::-1]


def _values(forest: Forest, operators: Forest, digits: Forest) -> Int[np.ndarray, "r"]:
    """Returns the values of the trees."""
    below = np.zeros(0, np.int64)
    for args, operator, here in zip(reversed(forest), reversed(operators), reversed(digits), strict=True):
        is_operator = args > 0
        count = args[is_operator]
        first = np.cumsum(count) - count
        ranked = np.sort(10 * np.repeat(np.arange(len(count)), count) + below) % 10  # sorted within every list
        results = (
            _over_children(np.minimum, args, below),
            _over_children(np.maximum, args, below),
            (ranked[first + (count - 1) // 2] + ranked[first + count // 2]) // 2,
            _over_children(np.add, args, below) % 10,
        )
        here = here.copy()
        here[is_operator] = np.choose(operator[is_operator] - OPERATOR, results)
        below = here
    return below
