"""Worker processes that compute batches in order.

The arrays of a batch reach the main process through memory that both map and use again. New shared memory for every
batch costs as much time as decoding JPEG images: the system clears each of its pages, for each process.
"""

import contextlib
import mmap
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from absl import logging

from core.errors import UserError
from data.splits import Batch

SLOTS = 2  # finished batches of a worker that wait to be read
ALIGNMENT = 64  # bytes

Read = Callable[[int], Batch]
Layout = dict[str, tuple[int, str, tuple[int, ...]]]  # key -> where an array begins in memory, its type and shape


def computed(read: Read, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Yields read(start), ..., read(stop - 1), computed by `workers` processes in turn.

    Raises UserError as `read` does, or if a process ends early; RuntimeError with the traceback of any other exception.
    """
    crew = [_Worker(read, range(start + first, stop, workers)) for first in range(min(workers, stop - start))]
    try:
        for turn in range(stop - start):
            yield crew[turn % len(crew)].next()
    finally:  # also when the consumer stops early
        for worker in crew:
            worker.stop()


class _Worker:
    """A process that computes the batches of `steps`, some ahead."""

    def __init__(self, read: Read, steps: range):
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of JAX
        self.slots = [_Memory(_nameless_file()) for _ in range(SLOTS)]
        self.turn = 0
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(read, steps, theirs, self.slots), daemon=True)
        self.process.start()
        theirs.close()

    def next(self) -> Batch:
        try:
            message = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise UserError(
                f"a process that reads the data has ended (exit code {self.process.exitcode}): if memory is short, "
                "lower config.data.workers or the batch size"
            ) from None
        if isinstance(message, Exception):
            raise message
        batch = self.slots[self.turn % SLOTS].read(message)
        self.turn += 1
        with contextlib.suppress(BrokenPipeError):  # the process has computed its last batch
            self.pipe.send(None)
        return batch

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        for slot in self.slots:
            os.close(slot.handle)


def _work(read: Read, steps: range, pipe: Connection, slots: list["_Memory"]) -> None:
    """Runs in a worker: sends the layout of each batch, or an exception."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one acts
    logging.set_verbosity(logging.ERROR)  # each worker would repeat the warnings of the main process
    with contextlib.suppress(EOFError, BrokenPipeError):  # the main process has gone
        for turn, step in enumerate(steps):
            try:
                batch = read(step)
            except UserError as error:
                pipe.send(error)
                return
            except Exception:
                pipe.send(RuntimeError(f"in a process that reads the data:\n{traceback.format_exc()}"))
                return
            if turn >= SLOTS:
                pipe.recv()  # the main process has read the batch in this slot
            pipe.send(slots[turn % SLOTS].write(batch))


class _Memory:
    """Memory that two processes share, a file without a name. It grows to the largest batch.

    Attributes:
        handle: of the file.
    """

    def __init__(self, handle: int):
        self.handle = handle
        self._bytes = np.zeros(0, np.uint8)

    def __reduce__(self):  # of use while a process starts only
        return _received, (reduction.DupFd(self.handle),)

    def write(self, batch: Batch) -> Layout:
        layout: Layout = {}
        size = 0
        for key, values in batch.items():
            layout[key] = (size, values.dtype.str, values.shape)
            size += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
        if size > len(self._bytes):
            os.ftruncate(self.handle, size)
        for key, values in batch.items():
            self._array(*layout[key])[...] = values
        return layout

    def read(self, layout: Layout) -> Batch:
        """Returns copies of the arrays."""
        return {key: self._array(*place).copy() for key, place in layout.items()}

    def _array(self, start: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        if start + size > len(self._bytes):
            self._bytes = np.frombuffer(mmap.mmap(self.handle, 0), np.uint8)  # all of the file
        return self._bytes[start : start + size].view(kind).reshape(shape)


def _received(handle: Any) -> _Memory:
    return _Memory(handle.detach())


def _nameless_file() -> int:
    """Returns the handle of an empty file that disappears with the processes that use it."""
    if hasattr(os, "memfd_create"):  # Linux
        return os.memfd_create("batch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
