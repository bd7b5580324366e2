"""Augment op: the contract of this folder. An op changes a batch on the device, inside the compiled step.

A recipe lists ops as calls, `config.augment.ops = ("flip()", "padded_crop(padding=4)", "normalise()")`. An op is one
class of a file in this folder; its name in a recipe is the class's name in snake case.
`tests/data/test_augment_ops.py` finds it and tests the contract.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
from jaxtyping import Array, Int, Key

from core import names
from core.errors import UserError
from core.info import Info
from core.ranges import Bounds, out_of_range

# b: batch

Rng = Key[Array, ""]
Keys = Key[Array, "b"]
Batch = dict[str, Any]
Number = int | float

SPATIAL = ("image", "label_map", "boxes", "points", "volume", "video")  # roles of values that have a place in an image
WHERE = "config.augment.ops"


@dataclasses.dataclass(frozen=True)
class Op:
    """Base class of all augment ops: a frozen dataclass whose fields are the arguments in the recipe.

    Images are float32 in [0, 1] until `normalise`. Where `mask` [b] is 0, an example is padding: it must not change
    another one.

    Attributes:
        when: "train", or "always": in evaluation and for new inputs too.
        mixes: whether the op blends pairs of examples. It takes partners within the device's batch, so that its results
            depend on the number of devices; those of all other ops do not. A recipe may have one such op.
        info: the data set, stored by `bind`.
    """

    when: ClassVar[Literal["train", "always"]] = "train"
    mixes: ClassVar[bool] = False
    info: Info | None = dataclasses.field(default=None, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name in recipes."""
        return names.snake_case(type(self).__name__)

    @property
    def from_start(self) -> bool:
        """Whether the statistics of the data set are replaced by those of the run in `config.init_from`."""
        return False

    def bind(self, info: Info) -> "Op":
        """Returns the op for a data set. Raises UserError if the op cannot work on it."""
        bound = copy.copy(self)
        object.__setattr__(bound, "info", info)
        return bound

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        """Returns the changed batch. Example i draws all its random numbers from keys[i]."""
        raise NotImplementedError

    def keys_of(self, *roles: str) -> list[str]:
        """Returns the batch keys with one of the roles."""
        return [key for key, record in self.info.keys.items() if record.role in roles]

    def refuse(self, reason: str) -> None:
        """Raises UserError that names the op."""
        raise UserError(f"{self.name}: {reason}")

    def check_roles(self, *roles: str) -> None:
        """Raises UserError unless the data set has a key with one of the roles."""
        if not self.keys_of(*roles):
            shown = ", ".join(f"{key} ({record.role or 'no role'})" for key, record in self.info.keys.items())
            self.refuse(f"works on {' or '.join(roles)}; {self.info.name} has {shown}")

    def check_unmoved(self, *moved: str) -> None:
        """Raises UserError if the data set has a spatial key that the op leaves in place, of another role than `moved`.

        Keys without a role that have the size of the image count as spatial.
        """
        sizes = {self.info.keys[key].shape[:2] for key in self.keys_of("image")}
        for key, record in self.info.keys.items():
            is_map = not record.role and len(record.shape) > 1 and record.shape[:2] in sizes
            if is_map or (record.role in SPATIAL and record.role not in moved):
                self.refuse(
                    f"moves or hides parts of the image, but not {key!r} ({record.role or 'a map without role'})"
                )

    def check_range(self, **bounds: Bounds) -> None:
        """Raises UserError unless each argument is within its bounds."""
        if reason := out_of_range(self, bounds):
            self.refuse(reason)


def operations() -> Mapping[str, type[Op]]:
    """Returns name -> class of every op in this folder."""
    return names.subclasses("data.augment", Op)


def parse_op(text: str) -> Op:
    """Returns the op of a call. Raises UserError for an unknown op or argument, and suggests the nearest."""
    return names.call_option(operations(), text, WHERE)


def example_keys(rng: Rng, op: int, index: Int[Array, "b"]) -> Keys:
    """Returns one key per example for the op at this position of the recipe: a function of `rng` and the index only."""
    rng = jax.random.fold_in(rng, op)
    return jax.vmap(lambda i: jax.random.fold_in(rng, i))(index)
