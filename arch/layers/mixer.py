"""The contract of a block's sublayers: attention, feed-forward layers, convolutions, recurrences, gates.

A sublayer is a module with the field `dtype`, called as `sublayer(x, context, cache) -> (y, cache)`. It returns y of
the shape of x. A sublayer that looks at single tokens ignores `context` and returns the cache None.
"""

from typing import Any, NamedTuple

from flax import struct
from jaxtyping import Array, Float, PyTree

# b: batch, t: tokens, m: positions of the memory, c: their width, d: width of the model; `#` marks axes of size 1


class Context(struct.PyTreeNode):
    """The facts about a batch that sublayers read besides their input. All blocks share them.

    Attributes:
        positions: of each token in its sequence, from 0.
        train: whether dropout is on.
        mask: real tokens; None: all are. A causal sublayer does not need it where padding comes last.
        segments: number of each token's text; tokens of different texts do not see each other. None: one text per row.
        places: vectors that attention adds to its input where it makes queries and keys, but not values (Carion et al.
            2020, arXiv 2005.12872, figure 10); None: none.
        memory: what cross-attention reads, with the mask of its real positions, and the `places` of its keys.
        capacity: number of tokens for which a sublayer makes a cache; None: it makes none. With a `cache` it extends
            that.
        lengths: number of tokens of each row that the new cache contains; None: all. Later ones are not remembered.
        causal: the network predicts the next token: a sublayer in which a token sees later ones raises ValueError.
    """

    positions: Any  # Int [#b t]; not checked as annotations, since trees are rebuilt with leaves of other types
    train: bool = struct.field(pytree_node=False, default=False)
    mask: Any = None  # Bool [b t]
    segments: Any = None  # Int [b t]
    places: Any = None  # Float [#b t d]
    memory: Any = None  # Float [b m c]
    memory_mask: Any = None  # Bool [b m]
    memory_places: Any = None  # Float [#b m c]
    capacity: int | None = struct.field(pytree_node=False, default=None)
    lengths: Any = None  # Int [b]
    causal: bool = struct.field(pytree_node=False, default=False)


class KeyValues(NamedTuple):
    """Keys and values of the positions seen so far; position i of a row is at index i."""

    keys: Float[Array, "b n s h"]
    values: Float[Array, "b n s v"]


def both_ways(x: Float[Array, "b t d"], context: Context, name: str) -> Float[Array, "b t d"]:
    """Returns x with zeros in padding, for a sublayer called `name` in which every token sees all others of its row.

    Raises ValueError where such a sublayer would see what it must not: later tokens, or those of another text.
    """
    if context.causal or context.capacity is not None:
        raise ValueError(f"{name} sees later tokens: it cannot predict the next one")
    if context.segments is not None:
        raise ValueError(f"{name} reads one text per row: it cannot train on packed texts")
    return x if context.mask is None else x * context.mask[..., None].astype(x.dtype)


Cached = tuple[Float[Array, "b t d"], PyTree]  # the result of a sublayer: y and the cache
