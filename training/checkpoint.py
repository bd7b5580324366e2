"""Checkpoints: atomic and asynchronous through Orbax, with all that a run needs to continue, and a fallback to an older
one if the newest is damaged.
"""

import contextlib
import copy
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from core.errors import UserError

FOLDERS = ("best", "checkpoints")  # of a workdir, in order of preference after training


class Checkpoints:
    """The newest `keep` checkpoints of a folder, one folder per step: a state and `meta`, a JSON-able dict.

    A save becomes visible completely or not at all. Each has a checksum per array.
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
        meta = copy.deepcopy({**meta, "checksums": _checksums(state)})  # the caller may change `meta` before the write
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        self.manager.save(step, args=arguments)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Returns when the saves so far are on the disk."""
        self.manager.wait_until_finished()

    def restore(
        self, template: PyTree, say: Callable[[str], None] = print, check: Callable[[dict], None] = lambda meta: None
    ) -> tuple[PyTree, dict] | None:
        """Returns the newest readable state and its meta, None if the folder has no checkpoint.

        Damaged newer checkpoints are moved to `damaged-STEP`, with a printed line each. Raises UserError if checkpoints
        exist but none can be read. `check` may raise for a meta, before the arrays are read.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                check(self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta)
                restored = self._read(step, template)
            except UserError:
                raise
            except Exception as error:  # Orbax and its dependencies raise any exception for a broken file
                damaged[step] = str(error).partition("\n")[0][:200]
                continue
            for bad, reason in damaged.items():
                shutil.move(self.folder / str(bad), self.folder / f"damaged-{bad}")
                say(
                    f"checkpoint {bad} is damaged ({reason}); moved to damaged-{bad}, continuing from checkpoint {step}"
                )
            self.manager.reload()
            return restored
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise UserError(f"no checkpoint in {self.folder} can be read; checkpoint {step}: {reason}")
        return None

    def _read(self, step: int, template: PyTree) -> tuple[PyTree, dict]:
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(template), meta=ocp.args.JsonRestore())
        restored = self.manager.restore(step, args=arguments)
        _verify(restored.state, restored.meta)
        return restored.state, restored.meta

    def close(self) -> None:
        """Waits for saves in flight."""
        self.manager.close()


def read_arrays(path: Path) -> tuple[PyTree, dict]:
    """Returns (state as nested dicts of numpy arrays, meta) of a checkpoint folder (one step) of any model.

    Raises UserError if it does not hold a readable checkpoint.
    """
    path = Path(path).resolve()
    try:
        meta = read_meta(path)
        with ocp.PyTreeCheckpointer() as checkpointer:
            structure = checkpointer.metadata(path / "state").item_metadata.tree
            on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), structure)
            state = checkpointer.restore(path / "state", restore_args=on_host)
        _verify(state, meta)
        return state, meta
    except Exception as error:  # Orbax and its dependencies raise any exception for a broken file
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"no checkpoint can be read in {path}: {reason}") from error


def read_meta(path: Path) -> dict:
    """Returns the meta of a checkpoint folder (one step). Raises OSError and ValueError."""
    return json.loads((path / "meta" / "metadata").read_text())


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


def _verify(state: PyTree, meta: dict) -> None:
    """Raises ValueError if an array does not match its checksum."""
    saved = meta["checksums"]
    for path, checksum in _checksums(state).items():
        if saved.get(path, checksum) != checksum:
            raise ValueError(f"{path} does not match its checksum")


def _checksums(state: PyTree) -> dict[str, int]:
    """Returns path -> CRC-32 of every array, except arrays that are partly on other hosts.

    Paths are the same in a state and in the nested dicts of `read_arrays`, whose order differs.
    """
    checksums = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            continue
        content = np.ascontiguousarray(leaf).view(np.uint8).reshape(-1)
        checksums[jax.tree_util.keystr(path, simple=True, separator="/")] = zlib.crc32(content)
    return checksums
