"""Checkpoints: atomic and asynchronous through Orbax, with all that a run needs to continue, and a fallback to an older
one if the newest is damaged.
"""

import contextlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from core.errors import UserError
from core.machine import free_memory
from training.checksum import checksums, joint_checksums

FOLDERS = ("best", "checkpoints")  # of a workdir, in order of preference after training
SEAL = "checksum"  # key of a meta


class Checkpoints:
    """The newest `keep` checkpoints of a folder, one folder per step: a state and `meta`, a JSON-able dict.

    A save, by all hosts, becomes visible completely or not at all. Each has a checksum per array.
    """

    def __init__(self, folder: Path, keep: int = 1):
        self.folder = Path(folder).resolve()
        # hosts synchronise by name: two folders may be saved at the same step
        meeting = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self.folder.name)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=False, multiprocessing_options=meeting)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, state: PyTree, meta: dict, wait: bool = False) -> None:
        """Saves in the background; with `wait`, returns when the save is on the disk. An existing step is kept."""
        # through JSON: the caller may change `meta` before the write, and tuples and numeric keys become what is read
        meta = sealed(json.loads(json.dumps({**meta, "sums": checksums(state) | joint_checksums(state)})))
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        self.manager.save(step, args=arguments)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Returns when the saves so far are on the disk."""
        self.manager.wait_until_finished()

    def restore(self, template: PyTree, say: Callable[[str], None] = print) -> tuple[PyTree, dict] | None:
        """Returns the newest readable state and its meta as `restore_first`, None if the folder has no checkpoint."""
        restored = restore_first([(self, step) for step in reversed(steps_in(self.folder))], template, say)
        return restored and restored[:2]

    def read(self, step: int, template: PyTree) -> tuple[PyTree, dict]:
        """Returns a state and its meta; waits for no other host, and does not check arrays that are partly on others.

        Raises any exception for a damaged checkpoint.
        """
        meta = read_meta(self.folder / str(step))
        host = jax.process_index()
        # the manager's own restore waits for the other hosts, for ever if one of them cannot read its part
        alone = ocp.options.MultiprocessingOptions(primary_host=host, active_processes={host})
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
            state = reader.restore(self.folder / str(step) / "state", args=ocp.args.StandardRestore(template))
        _verify(checksums(state), meta)
        return state, meta

    def set_aside(self, step: int) -> None:
        """Renames a damaged checkpoint to `damaged-STEP`, by the first host; nothing happens in a folder without write
        access.
        """
        if jax.process_index() == 0:
            aside = self.folder / f"damaged-{step}"
            with contextlib.suppress(OSError):
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / str(step)).rename(aside)
        _all_agree(True)  # no host looks into the folder before it is done
        self.manager.reload()

    def close(self) -> None:
        """Waits for saves in flight."""
        self.manager.close()


def restore_first(
    candidates: Iterable[tuple[Checkpoints, int]],
    template: PyTree,
    say: Callable[[str], None] = print,
    check: Callable[[dict], None] = lambda meta: None,
) -> tuple[PyTree, dict, str] | None:
    """Returns the state, the meta and the name ("best/120") of the first of the checkpoints (folder, step) that all
    hosts can read; None without candidates.

    Damaged ones before it are renamed to `damaged-STEP`, with a printed line each. Raises UserError if none can be
    read. `check` may raise for a meta, before the arrays are read.
    """
    damaged: list[tuple[Checkpoints, int, str]] = []
    for checkpoints, step in candidates:
        restored, reason = _restored(checkpoints, step, template, check)
        if restored is None:
            damaged.append((checkpoints, step, reason))
            continue
        name = f"{checkpoints.folder.name}/{step}"
        for folder, bad, reason in damaged:
            folder.set_aside(bad)
            say(f"{folder.folder.name}/{bad} is damaged ({reason}); renamed to damaged-{bad}, continuing from {name}")
        return *restored, name
    if damaged:
        checkpoints, step, reason = damaged[0]
        raise UserError(
            f"no checkpoint in {checkpoints.folder.parent} can be read; {checkpoints.folder.name}/{step}: {reason}"
        )
    return None


def _restored(
    checkpoints: Checkpoints, step: int, template: PyTree, check: Callable[[dict], None]
) -> tuple[tuple[PyTree, dict] | None, str]:
    """Returns the state and the meta, or None on all hosts and this host's reason. Raises UserError as `check`."""
    restored, reason = None, "another host cannot read it"
    try:
        check(read_meta(checkpoints.folder / str(step)))
        restored = checkpoints.read(step, template)
    except UserError:
        raise
    except Exception as error:  # Orbax and its dependencies raise any exception for a broken file
        reason = str(error).partition("\n")[0][:200]
    if not _all_agree(restored is not None):
        return None, reason
    state, meta = restored
    try:
        _verify(joint_checksums(state), meta)
    except ValueError as error:  # on all hosts alike
        return None, str(error)
    return restored, ""


def _all_agree(value: bool) -> bool:
    """Returns whether the value is true on all hosts, which wait here for each other."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.array(value))))


def read_arrays(path: Path) -> tuple[PyTree, dict]:
    """Returns (state as nested dicts of numpy arrays, meta) of a checkpoint folder (one step) of any model.

    Raises UserError if it does not hold a readable checkpoint.
    """
    path = Path(path).resolve()
    try:
        meta = read_meta(path)
        with ocp.PyTreeCheckpointer() as checkpointer:
            structure = checkpointer.metadata(path / "state").item_metadata.tree
            _check_size(structure)
            on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), structure)
            state = checkpointer.restore(path / "state", restore_args=on_host)
        _verify(checksums(state), meta)
        return state, meta
    except Exception as error:  # Orbax and its dependencies raise any exception for a broken file
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"no checkpoint can be read in {path}: {reason}") from error


def _check_size(structure: PyTree) -> None:
    """Raises ValueError for arrays that do not fit the memory: compressed zeros are small on a disk."""
    sizes = (np.prod(x.shape, dtype=float) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(structure) if x.shape)
    if (size := sum(sizes)) > (free := free_memory()):
        raise ValueError(f"it holds {size / 1e9:.3g} GB, but {free / 1e9:.3g} GB of memory are free")


def read_meta(path: Path) -> dict:
    """Returns the meta of a checkpoint folder (one step). Raises OSError, and ValueError if it is damaged."""
    meta = json.loads((path / "meta" / "metadata").read_text())
    if SEAL in meta and meta != sealed(meta):
        raise ValueError("meta does not match its checksum")
    return meta


def sealed(meta: dict) -> dict:
    """Returns `meta` with its own checksum."""
    text = json.dumps({key: value for key, value in meta.items() if key != SEAL}, sort_keys=True)
    return {**meta, SEAL: zlib.crc32(text.encode())}


def read_best(workdir: Path, say: Callable[[str], None]) -> tuple[Path, PyTree, dict]:
    """Returns (folder, state, meta) of a workdir's best checkpoint if it has one, else of its newest, as `read_arrays`.

    An older one replaces a damaged one, with a printed line. Raises UserError if no checkpoint exists or can be read.
    """
    folders = _folders(workdir)
    for folder, following in zip(folders, [*folders[1:], None], strict=True):
        try:
            return folder, *read_arrays(folder)
        except UserError as error:
            if following is None:
                raise
            say(f"{error}; using {following}")


def stored_meta(workdir: Path) -> dict:
    """Returns the meta of the first readable checkpoint of a workdir, in the order of `read_best`.

    Raises UserError if no checkpoint exists or can be read.
    """
    for folder in _folders(workdir):
        with contextlib.suppress(OSError, ValueError):
            return read_meta(folder)
    raise UserError(f"no checkpoint in {workdir} can be read")


def _folders(workdir: Path) -> list[Path]:
    """Returns the checkpoints of a workdir, the best and the newest first. Raises UserError if it has none."""
    found = [workdir / name / str(step) for name in FOLDERS for step in reversed(steps_in(workdir / name))]
    if not found:
        raise UserError(f"{workdir} has no checkpoint")
    return found


def steps_in(folder: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, ascending; [] if the folder does not exist."""
    if not Path(folder).is_dir():
        return []
    return sorted(int(path.name) for path in Path(folder).iterdir() if path.name.isdigit())


def _verify(found: dict[str, int], meta: dict) -> None:
    """Raises ValueError if the checksum of an array is not the saved one. Older versions saved others, not read."""
    saved = meta.get("sums", {})
    for path, checksum in found.items():
        if saved.get(path, checksum) != checksum:
            raise ValueError(f"{path} does not match its checksum")
