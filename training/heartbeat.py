"""A host that is lost ends the others with one line; jax's own runtime takes minutes, and aborts with pages of stacks.

The first host holds a connection to each other host, and both sides send a number every few seconds. The system closes
the connections of a process that ends in any way; a machine without power or network is silent.
"""

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax._src import distributed  # its address of the first host has no public name
from jax.experimental import multihost_utils

from core.errors import Diverged, Stopped

BEAT_SECONDS, SILENCE_SECONDS = 5.0, 30.0
GRACE_SECONDS = 5.0  # in which a host may show its own error, if another one reports an error
BEAT, DONE, FAILED = -1, -2, -3  # messages; others are the numbers of lost hosts
MESSAGE = struct.Struct("!i")


class Heartbeat:
    """Connections of this process to others of its run."""

    def __init__(self, lost: Callable[[int, bool], None]):
        self.lost, self.done = lost, False
        self.peers: dict[int, socket.socket] = {}

    def connect(self) -> None:
        """Connects the hosts of the run, which all call this."""
        server = socket.create_server(("", 0)) if jax.process_index() == 0 else None
        port = multihost_utils.broadcast_one_to_all(np.int32(server.getsockname()[1] if server else 0))
        if server:
            for _ in range(jax.process_count() - 1):
                peer, _ = server.accept()
                self.add(MESSAGE.unpack(peer.recv(MESSAGE.size, socket.MSG_WAITALL))[0], peer)
            server.close()
        else:
            address = distributed.global_state.coordinator_address.rpartition(":")[0].strip("[]")
            first = socket.create_connection((address, int(port)))
            first.sendall(MESSAGE.pack(jax.process_index()))
            self.add(0, first)
        threading.Thread(target=self._beat, daemon=True).start()

    def add(self, host: int, peer: socket.socket) -> None:
        """Listens to another host."""
        peer.settimeout(SILENCE_SECONDS)
        self.peers[host] = peer
        threading.Thread(target=self._listen, args=(host, peer), daemon=True).start()

    def send(self, message: int) -> None:
        for peer in list(self.peers.values()):
            with contextlib.suppress(OSError):
                peer.sendall(MESSAGE.pack(message))

    def end(self, message: int) -> None:
        """Tells the others that this process ends: DONE, as they do, or FAILED."""
        self.done = True
        self.send(message)

    def _beat(self) -> None:
        while not self.done:
            self.send(BEAT)
            time.sleep(BEAT_SECONDS)

    def _listen(self, host: int, peer: socket.socket) -> None:
        message = BEAT
        while message == BEAT:
            try:
                received = peer.recv(MESSAGE.size, socket.MSG_WAITALL)
                message = MESSAGE.unpack(received)[0] if received else host
            except (OSError, struct.error):  # silence, or a connection that broke
                message = host
        if message == DONE or self.done:
            return
        lost = host if message == FAILED else message
        self.send(lost)
        if not self.done:
            self.lost(lost, message == FAILED)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Context in which a lost host ends this process; it does nothing for one host."""
    if jax.process_count() == 1:
        yield
        return
    heartbeat, message = Heartbeat(end_process), FAILED
    heartbeat.connect()
    try:
        yield
        message = DONE
    except (Stopped, Diverged):  # all hosts end so
        message = DONE
        raise
    finally:
        heartbeat.end(message)


def end_process(host: int, failed: bool) -> None:
    """Ends this process, which waits for a lost host in compiled code."""
    if failed:
        time.sleep(GRACE_SECONDS)
    what = "ended with an error" if failed else "is lost"
    line = f"error: host {host} {what}: the same command continues from the newest checkpoint, with another number of"
    print(f"{line} hosts (config.parallel.hosts), too", file=sys.stderr, flush=True)
    os._exit(1)
