"""SIGTERM: finish the step, save, leave; and leave all the same when that takes too long (a compilation cannot be
interrupted).
"""

import os
import signal
import sys
import threading

from core.errors import Stopped

PATIENCE_SECONDS = 8.0  # after which nothing more is waited for; schedulers kill after 10 to 30


class Stop:
    """Context in which SIGTERM sets `requested` instead of ending the process.

    If the block has not ended PATIENCE_SECONDS later, the process ends there and then: checkpoints are atomic, the
    newest whole one stands.
    """

    def __init__(self):
        self.requested = False
        self._left = threading.Event()

    def __enter__(self):
        # A Python handler only runs between bytecodes, not inside a long compilation; the interpreter's C handler
        # writes to this pipe at once, and the thread sees it.
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._reader = os.fdopen(reader, "rb", buffering=0)
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._previous = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "requested", True))
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
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
                        "SIGTERM: left without a new checkpoint; the last whole one stands", file=sys.stderr, flush=True
                    )
                    os._exit(Stopped.EXIT_CODE)
                return
