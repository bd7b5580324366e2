"""Names of the arrays in PyTorch's files ("torch:FILE"), one `Table` per architecture and publisher.

The file has arrays alone: the network is that of the config, and its fields determine the rows of the table, which are
read in both directions.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from arch.pretrained.family import Arrays, Change, Weight, norm
from core.errors import UserError

Network = Any  # an instance of the table's architecture, whose fields the rows depend on
Variables = Mapping[str, Mapping[str, np.ndarray]]  # collection -> path -> array

CONV = Change(  # a kernel (out, in, *window) there, (*window, in, out) here; grouped ones, too
    lambda x: np.moveaxis(x, (0, 1), (-1, -2)),
    lambda x: np.moveaxis(x, (-1, -2), (0, 1)),
)
CHANNELS = Change(np.ravel, lambda x: x[:, None, None])  # a number per channel: (c, 1, 1) there
STATISTICS = ("mean", "var")  # of batch normalisation: not parameters, but "batch_stats"
COUNTS = ".num_batches_tracked"  # end of names that have no counterpart here


def conv(theirs: str, ours: str) -> tuple[Weight, ...]:
    """Returns the rows of a convolution, with a bias or without."""
    return Weight(f"{theirs}.weight", (f"{ours}/kernel",), CONV), Weight(f"{theirs}.bias", (f"{ours}/bias",))


def batch_norm(theirs: str, ours: str) -> tuple[Weight, ...]:
    """Returns the rows of a batch normalisation."""
    mean, var = (Weight(f"{theirs}.running_{name}", (f"{ours}/{name}",)) for name in STATISTICS)
    return *norm(theirs, ours), mean, var


def flattened(height: int, width: int) -> Change:
    """Returns the change of a dense layer over a flattened map: (out, c h w) there, (h w c, out) here."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1, height, width).transpose(2, 3, 1, 0).reshape(-1, len(x))

    def to_theirs(x: np.ndarray) -> np.ndarray:
        return x.reshape(height, width, -1, x.shape[1]).transpose(3, 2, 0, 1).reshape(x.shape[1], -1)

    return Change(to_ours, to_theirs)


@dataclasses.dataclass(frozen=True)
class Table:
    """The names of one architecture's arrays.

    Attributes:
        model: the architecture's name in a config, such as "resnet.ResNet".
        rows: network -> rows of names and paths. A row for an array that a network or a file lacks does no harm.
        publisher: of the names, such as "torchvision" or "timm".
    """

    model: str
    rows: Callable[[Network], Iterable[Weight]]
    publisher: str = "torchvision"

    def read(self, arrays: Arrays, network: Network) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
        """Returns the variables (collection -> path -> array), and the names that have no place in the network."""
        found: dict[str, np.ndarray] = {}
        unknown = dict.fromkeys(name for name in arrays if not name.endswith(COUNTS))
        for weight in self.rows(network):
            name = next((alias for alias in weight.theirs.split("|") if alias in unknown), None)
            if name and weight.fits(vars(network)):
                del unknown[name]
                found |= weight.to_ours(arrays[name])
        return collections(found), list(unknown)

    def write(self, variables: Variables, network: Network) -> dict[str, np.ndarray]:
        """Inverse of `read`. Raises UserError for a parameter without a name."""
        ours, result = {path: x for tree in variables.values() for path, x in tree.items()}, {}
        for weight in self.rows(network):
            if weight.fits(vars(network)) and all(path in ours for path in weight.ours):
                arrays = [ours.pop(path) for path in weight.ours]
                result[weight.theirs.partition("|")[0]] = weight.to_theirs(arrays)
        if ours:
            raise UserError(f"parameter {min(ours)} of {self.model} has no name in files of {self.publisher}")
        return result


def collections(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns collection -> path -> value of parameters and batch statistics by path."""
    result: dict[str, dict[str, Any]] = {"params": {}, "batch_stats": {}}
    for path, value in flat.items():
        result["batch_stats" if path.rpartition("/")[2] in STATISTICS else "params"][path] = value
    return result


@functools.cache
def tables() -> dict[str, list[Table]]:
    """Returns architecture -> its tables, from all files of this folder."""
    folder = importlib.import_module(__package__)
    found: dict[str, list[Table]] = {}
    for entry in pkgutil.iter_modules(folder.__path__):
        for value in vars(importlib.import_module(f"{__package__}.{entry.name}")).values():
            if isinstance(value, Table):
                found.setdefault(value.model, []).append(value)
    return found
