"""Columns that hold paths of files."""

import sys
from collections.abc import Mapping
from pathlib import Path

from core.errors import UserError
from data.preprocess.op import FOLDER, Chunk, Examples, Keys, check_keys, chunks


def paths(chunk: Chunk, key: str) -> list[Path]:
    """Returns the paths of a column; relative ones resolve against the folder of the source's files."""
    folders = chunk.get(FOLDER) or [""] * len(chunk[key])
    return [Path(folder) / Path(value).expanduser() for folder, value in zip(folders, chunk[key], strict=True)]


def check_paths(op: str, key: str, splits: Mapping[str, Examples], keys: Keys) -> list[Path]:
    """Returns the paths in a column of the training split.

    Raises UserError unless the column holds text, and every path in it, in all splits, is a file.
    """
    check_keys(op, [key], keys, ("text",))
    found: dict[str, list[Path]] = {}
    for split, examples in splits.items():
        found[split] = []
        for chunk in chunks(examples, (key, FOLDER)):
            if not all(isinstance(value, str) and value for value in chunk[key]):
                raise UserError(f"data.preprocess: {op}: {key!r} is missing in some rows of {split!r}")
            found[split] += paths(chunk, key)
        missing = [path for path in found[split] if not path.is_file()]
        if missing:
            count = f"{len(missing)} of {len(found[split])} files of {split!r}"
            raise UserError(f"data.preprocess: {op}: {key!r}: {missing[0]} does not exist ({count} are missing)")
        if split != "train" and (shared := {*found["train"]} & {*found[split]}):
            count = f"{len(shared)} of {len({*found[split]})} files of {split!r}"
            print(f"warning: {op}: {count} are also in the training split: use one file per split", file=sys.stderr)
    return found["train"]
