"""Records a folder between any two changes that a program makes to it, so that tests can continue from each: these are
the states that a kill can leave.
"""

import os
import shutil
import sys
import threading
from pathlib import Path

WRITES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")
IGNORED = ("tensorboard", "status.json", "lock", "out", "err", "seconds")  # nothing continues from these
RECORDERS: list["Recorder"] = []  # an audit hook cannot be removed


class Recorder:
    """Context that copies `root` into `copies`, numbered, before each write of the process if it has changed."""

    def __init__(self, root: Path, copies: Path):
        self.root, self.copies = root, copies
        self.seen, self.lock, self.busy = set(), threading.Lock(), threading.local()

    def __enter__(self):
        if not RECORDERS:
            sys.addaudithook(lambda event, arguments: [each.note(event, arguments) for each in RECORDERS[1:]])
            RECORDERS.append(self)
        RECORDERS.append(self)
        return self

    def __exit__(self, *_):
        RECORDERS.remove(RECORDERS[-1])

    @property
    def states(self) -> list[Path]:
        return sorted(self.copies.iterdir(), key=lambda path: int(path.name))

    def note(self, event: str, arguments: tuple) -> None:
        if event not in WRITES or getattr(self.busy, "value", False):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        self.busy.value = True
        try:
            with self.lock:  # other threads wait with their next change
                state = describe(self.root)
                if state not in self.seen:
                    self.seen.add(state)
                    shutil.copytree(self.root, self.copies / str(len(self.seen)), symlinks=True)
        except (OSError, shutil.Error):  # a file that Orbax's own threads have just renamed
            self.seen.discard(state)
            shutil.rmtree(self.copies / str(len(self.seen) + 1), ignore_errors=True)
        finally:
            self.busy.value = False


def describe(root: Path) -> frozenset:
    """Returns the files that matter with their contents; complete checkpoints, and incomplete ones, by name."""
    found = set()
    for folder, names, files in os.walk(root):
        for name in list(names):
            is_partial = "tmp" in name
            if name in IGNORED or is_partial or Path(folder).name in ("best", "checkpoints"):
                names.remove(name)
                found.add((folder, "partial" if is_partial else name))
        for name in files:
            if name.rpartition(".")[2] not in IGNORED and name not in IGNORED:
                is_partial = name.endswith(".part")  # nothing reads it
                found.add((folder, name, None if is_partial else (Path(folder) / name).read_bytes()))
        found.add(folder)
    return frozenset(found)
