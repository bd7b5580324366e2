"""SIGTERM: finish the step, save, and exit; exit without saving when that takes too long (a compilation cannot be
interrupted).
"""

import os
import signal
import sys
import threading

from jax.experimental import multihost_utils

from core.errors import Stopped

PATIENCE_SECONDS = 8.0  # then the process ends without waiting; schedulers kill after 10 to 30


class Stop:
    """Context in which SIGTERM requests a stop instead of ending the process.

    On several hosts all stop after the same step, whichever host gets the signal: jax handles it, agrees on the step
    (`multihost_utils.reached_preemption_sync_point`), and no time limit holds.

    On one host, if the block has not ended PATIENCE_SECONDS later, the process ends at once: checkpoints are atomic, so
    the newest complete one remains.
    """

    def __init__(self, hosts: int = 1):
        self.requested, self._hosts = False, hosts
        self._left = threading.Event()

    def after(self, step: int) -> bool:
        """Returns whether to stop after this step; must be called at every step."""
        return multihost_utils.reached_preemption_sync_point(step) if self._hosts > 1 else self.requested

    def __enter__(self):
        if self._hosts > 1:  # a Python handler would replace jax's
            return self
        # A Python handler only runs between bytecodes, not inside a long compilation; the interpreter's C handler
        # writes to this pipe at once, and the thread reads it.
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._reader = os.fdopen(reader, "rb", buffering=0)
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._previous = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "requested", True))
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        if self._hosts > 1:
            return
        self._left.set()
        signal.signal(signal.SIGTERM, self._previous)
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._writer)

    def _watch(self):
        while received := self._reader.read(1):
            if received[0] == signal.SIGTERM:
                self.requested = True
                if not self._left.wait(PATIENCE_SECONDS):
                    print(
                        "SIGTERM: ended without a new checkpoint; the last complete one is valid",
                        file=sys.stderr,
                        flush=True,
                    )
                    os._exit(Stopped.EXIT_CODE)
                return
