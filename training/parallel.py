"""Placement of the step: replicated under `jax.pmap` (the default), or under `jax.jit` with sharded state (FSDP).

The rest of the code passes and receives host arrays; only this file places them.
"""

import collections
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar

import jax
import numpy as np
from einops import rearrange
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import UserError
from training.state import CARRY

DEVICES = "devices"  # name of the one axis over all devices of all hosts
AHEAD = 2  # batches on the device before they are needed, and steps in flight


def connect(hosts: int) -> None:
    """Joins the other processes of a run of `hosts` processes, found from Slurm, Open MPI, Kubernetes or the TPU.

    Otherwise, each process reads JAX_COORDINATOR_ADDRESS (host:port of the first) and JAX_PROCESS_ID.
    Raises UserError if they are not found or their number differs.
    """
    if hosts == 1:
        return
    by_hand = "JAX_COORDINATOR_ADDRESS" in os.environ
    arguments = {"num_processes": hosts, "process_id": int(os.environ.get("JAX_PROCESS_ID", 0))} if by_hand else {}
    try:
        jax.distributed.initialize(**arguments)
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"config.parallel.hosts is {hosts}, but the other hosts were not found: {reason}") from error
    if jax.process_count() != hosts:
        raise UserError(f"config.parallel.hosts is {hosts}, but {jax.process_count()} joined")


def use_cpu(config: ConfigDict) -> None:
    """Splits the CPU into `config.parallel.cpu_devices` devices, before jax lists its devices.

    One XLA program leaves all cores but one idle in many of its operations; one program per core, each with its share
    of the batch, does not. "One per core" is limited by the batches, which must divide into shares of 8 examples or
    more. XLA_FLAGS that set a number of devices take precedence. Raises UserError if jax has started before.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    microbatch = config.train.batch_size // config.train.accumulate
    size = math.gcd(microbatch, config.eval.batch_size or config.train.batch_size)  # 0: made to fit any number
    possible = [n for n in range(1, cores() + 1) if size % n == 0 and size // n >= min(size, 8)]
    count = config.parallel.cpu_devices or max(possible)
    if count == max(1, jax.config.jax_num_cpu_devices):
        return
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        raise UserError(f"config.parallel.cpu_devices: jax has started without {count}: use a new process") from error


def cores() -> int:
    """Returns the number of cores that this process may use; NPROC, which XLA heeds, lowers it.

    Raises UserError for another NPROC.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("NPROC", str(allowed))
    if not limit.isdecimal() or int(limit) < 1:
        raise UserError(f"NPROC must be a number of cores, at least 1, not {limit!r}")
    return min(allowed, int(limit))


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Places the states and batches of one run on all devices and compiles steps for them.

    `training.side_by_side.SideBySide` has the same methods for several runs.

    Attributes:
        strategy: "pmap" (replicated data parallel) or "fsdp" (the state is sharded).
    """

    strategy: str = "pmap"
    runs: ClassVar[int] = 1

    @property
    def devices(self) -> int:
        """Number of devices of all hosts."""
        return jax.device_count()

    @property
    def axis_name(self) -> str | None:
        """The mapped axis inside a step; FSDP is one program over global arrays and has none."""
        return DEVICES if self.strategy == "pmap" else None

    def check_batch_size(self, key: str, size: int, accumulate: int = 1) -> None:
        """Raises UserError, with the nearest valid sizes, unless devices and microbatches divide the size."""
        unit = jax.device_count() * accumulate
        if size % unit:
            near = [n for n in (size // unit * unit, (size // unit + 1) * unit) if n]
            parts = f"{jax.device_count()} devices" + (f" x {accumulate} microbatches" if accumulate > 1 else "")
            raise UserError(f"config.{key} {size} is not a multiple of {parts}: use {' or '.join(map(str, near))}")

    @property
    def in_flight(self) -> int:
        """Largest number of steps in flight. Devices that share one CPU wait for each other in its thread pool: with
        one thread per device, a second step could take the thread that the first one needs.
        """
        return 1 if jax.default_backend() == "cpu" and jax.local_device_count() > 1 else AHEAD

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The devices that one call places its arrays on: with pmap, which finds the others itself, this host's."""
        return Mesh(np.array(jax.local_devices() if self.strategy == "pmap" else jax.devices()), (DEVICES,))

    @property
    def _split(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(DEVICES))

    def _sharding(self, leaf) -> NamedSharding:
        """Shards the last axis of a leaf that divides among the devices, and replicates leaves without one."""
        count, shape = len(self.mesh.devices), leaf.shape
        axis = next((i for i in reversed(range(len(shape))) if shape[i] % count == 0 and shape[i] >= count), None)
        spec = (None,) * axis + (DEVICES,) if axis is not None and count > 1 else ()
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def place(self, state: PyTree) -> PyTree:
        """Returns `state`, equal on all hosts, on the devices: a copy on each under pmap, a part on each under FSDP.

        The copies have the sharding of pmap's results; with any other (such as that of `jax_utils.replicate`) pmap
        compiles a second time for its own first result. The carried state of a row of the batch is placed with the
        row.
        """

        def placed(path, x, like=None):
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):  # the words of one key stay together
                data = placed(path, jax.random.key_data(x), like=x)
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
            if not is_readable(x):  # a checkpoint was restored to its place
                return x
            value, sharding = np.asarray(x), self._split
            if self.strategy == "fsdp":
                sharding = self._sharding(x if like is None else like)
            elif _of_rows(path):
                value = rearrange(value, "(d b) ... -> d b ...", d=jax.device_count())
                first = jax.process_index() * len(self.mesh.devices)
                value = value[first : first + len(self.mesh.devices)]
            else:
                value = np.broadcast_to(value, (len(self.mesh.devices), *value.shape))
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

        return jax.tree_util.tree_map_with_path(placed, state)

    def take(self, state: PyTree) -> PyTree:
        """Inverse of `place`: one copy, available to all hosts, under pmap; FSDP's state stays sharded."""
        if self.strategy == "fsdp":
            return state
        state = self._one_copy(state)
        known = self._known_to_all_hosts
        return state if jax.process_count() == 1 else jax.tree_util.tree_map_with_path(known, state)

    @functools.cached_property
    def _one_copy(self) -> Callable:
        def one_copy(path, x):
            return rearrange(x, "d b ... -> (d b) ...") if _of_rows(path) else x[0]

        replicated = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(lambda state: jax.tree_util.tree_map_with_path(one_copy, state), out_shardings=replicated)

    def _known_to_all_hosts(self, path, x: jax.Array) -> jax.Array:
        if _of_rows(path):  # hosts hold different rows
            x = multihost_utils.process_allgather(x, tiled=True)
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = self._known_to_all_hosts(path, jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        everywhere = NamedSharding(Mesh(np.array(jax.devices()), (DEVICES,)), PartitionSpec())
        return jax.make_array_from_callback(x.shape, everywhere, lambda index: np.asarray(x)[index])

    def stack(self, *states: PyTree) -> PyTree:
        """Returns the state of the one run."""
        (state,) = states
        return state

    def take_one(self, state: PyTree, run: int) -> PyTree:
        """Returns the state of the only run as `take`."""
        del run
        return self.take(state)

    def template_one(self, shapes: PyTree) -> PyTree:
        """Returns the template of the state of the only run."""
        return self.template(shapes)

    def template(self, shapes: PyTree) -> PyTree:
        """Returns the shapes of a state with the sharding to which a checkpoint of it is restored."""
        everywhere = NamedSharding(Mesh(np.array(jax.devices()), (DEVICES,)), PartitionSpec())
        sharding = self._sharding if self.strategy == "fsdp" else lambda _: everywhere
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(x)), shapes)

    def batches(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Mapping]:
        """Yields this host's batches placed on its devices, AHEAD of their use."""
        queue = collections.deque()
        for batch in batches:
            if self.strategy == "pmap":
                batch = {
                    key: rearrange(x, "(d b) ... -> d b ...", d=jax.local_device_count()) for key, x in batch.items()
                }
            queue.append({key: jax.make_array_from_process_local_data(self._split, x) for key, x in batch.items()})
            if len(queue) > AHEAD:
                yield queue.popleft()
        yield from queue

    def compile_train(self, step: Callable) -> Callable:
        """Compiles `step(state, batch) -> (state, metrics)` for placed arguments; the state is donated."""
        if self.strategy == "pmap":
            return jax.pmap(step, axis_name=DEVICES, donate_argnums=0)

        @functools.partial(jax.jit, donate_argnums=0)
        def sharded(state, batch):
            state, metrics = step(state, batch)
            return jax.lax.with_sharding_constraint(state, jax.tree.map(self._sharding, state)), metrics

        return sharded

    def compile_eval(self, step: Callable, own_batches: bool = False) -> Callable:
        """Compiles `step(variables, batch) -> outputs` for placed arguments."""
        del own_batches  # for several runs only
        if self.strategy == "pmap":
            return jax.pmap(step, axis_name=DEVICES)
        return jax.jit(step, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def per_run(self, outputs: PyTree) -> list[PyTree]:
        """Returns the outputs of the only run as `read`."""
        return [self.read(outputs)]

    def read(self, outputs: PyTree) -> PyTree:
        """Returns outputs that are the same on every device as numpy arrays. This waits for the device."""
        if self.strategy == "pmap":
            outputs = jax.tree.map(lambda x: x.addressable_shards[0].data[0], outputs)
        return jax.device_get(outputs)


def is_readable(x) -> bool:
    """Whether this host can read all values of an array."""
    return not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated


def _of_rows(path: tuple) -> bool:
    """Whether a leaf of a state holds a value for each row of the batch."""
    return any(getattr(key, "key", None) == CARRY for key in path)
