"""Several runs side by side: the step under `jax.vmap` over a leading axis of runs, in one program on one device.

The runs differ in seed, start and numbers of the optimizer. A small network leaves most of a device idle: five of its
seeds side by side take little longer than one.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import UserError
from training import config as config_lib
from training import optimizer as optimizer_lib
from training.parallel import AHEAD

OWN = ("seed", "init_from")  # keys in which runs side by side may differ, besides numbers of the optimizer
OPTIMIZER = "optimizer."


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """A placement with the interface of `training.parallel.Parallel`: every leaf of states, batches and metrics has a
    leading axis of runs. Batches of different lengths are padded with zeros to the longest.
    """

    runs: int

    axis_name = None
    devices = 1
    in_flight = AHEAD

    def check_batch_size(self, key: str, size: int, accumulate: int = 1) -> None:
        """Accepts any size: one device holds the complete batch."""

    def stack(self, *states: PyTree) -> PyTree:
        """Returns the states of single runs as one state."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def place(self, state: PyTree) -> PyTree:
        return jax.device_put(state)

    def take(self, state: PyTree) -> PyTree:
        return jax.tree.map(jnp.copy, state)  # a save in the background reads it while the step donates the original

    def take_one(self, state: PyTree, run: int) -> PyTree:
        return jax.tree.map(lambda x: x[run], state)

    def template(self, shapes: PyTree) -> PyTree:
        return self.template_one(jax.eval_shape(lambda tree: self.stack(*[tree] * self.runs), shapes))

    def template_one(self, shapes: PyTree) -> PyTree:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)

    def batches(self, *streams: Iterable[Mapping[str, np.ndarray]]) -> Iterator[dict[str, jax.Array]]:
        """Yields batches on the device. One stream is shared by all runs; otherwise each run has its own."""
        for batches in zip(*streams, strict=True):
            first = batches[0]
            yield jax.device_put(
                first if len(streams) == 1 else {key: _stacked([b[key] for b in batches]) for key in first}
            )

    def compile_train(self, step: Callable, numbers: PyTree) -> Callable:
        """Compiles `step(state, batch, numbers) -> (state, metrics)` of one run for all; the states are donated."""
        compiled = jax.jit(jax.vmap(step), donate_argnums=0)
        return lambda state, batch: compiled(state, batch, numbers)

    def compile_eval(self, step: Callable, own_batches: bool = False) -> Callable:
        """Compiles `step(variables, batch) -> outputs`; the runs share a batch or have their own."""
        return jax.jit(jax.vmap(step, in_axes=(0, 0 if own_batches else None)))

    def per_run(self, outputs: PyTree) -> list[PyTree]:
        """Returns the outputs of each run as numpy arrays. This waits for the device."""
        outputs = jax.device_get(outputs)
        return [jax.tree.map(lambda x, i=run: x[i], outputs) for run in range(self.runs)]


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    shape = np.max([array.shape for array in arrays], axis=0)
    return np.stack([np.pad(x, [(0, n - m) for n, m in zip(shape, x.shape, strict=True)]) for x in arrays])


def tuned_keys(configs: Sequence[ConfigDict]) -> tuple[str, ...]:
    """Returns the keys of the group `optimizer` in which configs differ."""
    leaves = [dict(config_lib.leaves(config)) for config in configs]
    keys = dict.fromkeys(key for each in leaves for key in each if key.startswith(OPTIMIZER))
    return tuple(key.removeprefix(OPTIMIZER) for key in keys if any(x.get(key) != leaves[0].get(key) for x in leaves))


def differences(config: ConfigDict, other: ConfigDict) -> list[str]:
    """Returns the differences of two validated configs that runs side by side must not have, as KEY: OLD -> NEW."""
    allowed = (OPTIMIZER, *(f"{key}:" for key in OWN))
    return [text for text in config_lib.difference(config, other) if not text.startswith(allowed)]


def check(configs: Sequence[ConfigDict]) -> None:
    """Raises UserError for validated configs whose runs cannot be trained side by side."""
    for config in configs:
        if changes := differences(configs[0], config):
            raise UserError(f"runs side by side may differ in seed and optimizer only, not in {changes[0]}")
        if reason := refusal(config, tuned_keys(configs)):
            raise UserError(reason)


def refusal(config: ConfigDict, tuned: Sequence[str] = ()) -> str:
    """Returns the reason why runs of a validated config cannot be trained side by side, "" if they can.

    Args:
        tuned: keys of the group `optimizer` in which they differ.
    """
    for key in tuned:  # a 0 removes its transformation from the optimizer, and would do so for every run
        value = config.optimizer.get(key)
        if not (isinstance(value, float) and value):
            return f"config.optimizer.{key} is {value!r}: such runs can be trained only one by one"
    if tuned and not _takes_arrays(config.optimizer, tuned):
        keys = ", ".join(f"config.optimizer.{key}" for key in tuned)
        return f"optax.{config.optimizer.name} takes no array for {keys}: such runs can be trained only one by one"
    if config.train.batch_tokens:
        return "config.train.batch_tokens makes batches of different sizes: such runs can be trained only one by one"
    if config.log.profile:
        return "config.log.profile traces one run: such runs can be trained only one by one"
    for key, alone in {"strategy": "pmap", "hosts": 1, "cpu_devices": 1}.items():  # one program on one device
        if config.parallel[key] != alone:
            return f"config.parallel.{key} is {config.parallel[key]!r}: such runs can be trained only one by one"
    return ""


def _takes_arrays(config: ConfigDict, keys: Sequence[str]) -> bool:
    """Whether the optimizer of a group can be compiled with arrays in place of these numbers; needs no device."""
    anywhere = {**config.to_dict(), "frozen": (), "lr_multipliers": ()}  # patterns would have to match `params`
    number, params = jax.ShapeDtypeStruct((), np.float32), {"kernel": jax.ShapeDtypeStruct((2, 2), np.float32)}

    def update(numbers, params):
        optimizer = optimizer_lib.create(ConfigDict({**anywhere, **numbers}), 10**6, params)
        return optimizer.update(params, optimizer.init(params), params)

    try:
        jax.eval_shape(update, dict.fromkeys(keys, number), params)
    except (UserError, TypeError):  # such as a condition in Python
        return False
    return True
