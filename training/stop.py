"""SIGTERM and SIGINT: finish the step, save, and exit; exit without saving when that takes too long, as a compilation,
which cannot be interrupted, may do.
"""

import os
import signal
import sys
import threading
from typing import Any

from jax.experimental import multihost_utils

from core.errors import Stopped

PATIENCE_SECONDS = 8.0  # then the process ends without waiting; schedulers kill after 10 to 30
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Context in which SIGTERM and SIGINT request a stop instead of ending the process.

    On several hosts all stop after the same step, whichever host gets the signal: jax handles SIGTERM, agrees on the
    step (`multihost_utils.reached_preemption_sync_point`), and no time limit holds.

    On one host, if the block has not ended PATIENCE_SECONDS later, the process ends at once: checkpoints are atomic, so
    the newest complete one remains.
    """

    def __init__(self, hosts: int = 1):
        self.requested, self._hosts = "", hosts  # the name of the signal
        self._all_saved = False
        self._left = threading.Event()

    def after(self, step: int) -> bool:
        """Returns whether to stop after this step; must be called at every step."""
        if self._hosts > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.requested = self.requested or signal.SIGTERM.name
        return bool(self.requested)

    def all_saved(self, step: int) -> None:
        """Call after the last save: a signal since the last step, and any later one, raises Stopped at once."""
        if self.after(step):
            raise self._stopped()
        self._all_saved = True
        if self._hosts > 1:  # each host ends by itself: no step is left to agree on
            self._handle(signal.SIGTERM)

    def __enter__(self):
        self._previous: dict[int, Any] = {}
        if self._hosts > 1:  # a Python handler would replace jax's
            self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
            return self
        # A Python handler only runs between bytecodes, not inside a long compilation; the interpreter's C handler
        # writes to this pipe at once, and the thread reads it.
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._reader = os.fdopen(reader, "rb", buffering=0)
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._handle(*SIGNALS)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._left.set()
        for number, previous in self._previous.items():
            signal.signal(number, previous or signal.SIG_DFL)  # None: not a handler of Python
        if self._hosts == 1:
            signal.set_wakeup_fd(self._previous_fd)
            os.close(self._writer)

    def _handle(self, *numbers: int) -> None:
        for number in numbers:
            self._previous[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        is_first, self.requested = not self.requested, signal.Signals(number).name
        if self._all_saved and is_first:
            raise self._stopped()

    def _stopped(self) -> Stopped:
        return Stopped(f"{self.requested}: all steps are saved; the same command evaluates them")

    def _watch(self):
        while received := self._reader.read(1):
            if received[0] in SIGNALS:
                name = signal.Signals(received[0]).name
                if not self._left.wait(PATIENCE_SECONDS):
                    print(
                        f"{name}: ended without a new checkpoint; the last complete one is valid",
                        file=sys.stderr,
                        flush=True,
                    )
                    os._exit(Stopped.EXIT_CODE)
                return
