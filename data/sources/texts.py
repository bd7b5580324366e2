"""Plain text files: running text for a language model, and parallel texts, line by line."""

import codecs
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Key
from data.sources.files import Columns, as_splits, existing, files_below, folders
from data.sources.source import FileSource

# b: blocks, n: lines

BLOCK = 4096  # bytes: small enough for exact slices and little memory
BLOCKS = 1024  # of a short text, whose slices must be exact, too


class Text(FileSource):
    """`text:PATH`: one text file, or a folder of .txt files, as running text in the key `text`.

    An example is a block of whole lines, about 4 KB, or less in a short text; joined in order, blocks are the text. A
    slice such as "train[:90%]" is a part of the text in its order where the ops keep the order. A folder of exactly
    train.txt, test.txt and perhaps validation.txt has these splits; other files of a folder follow one another by
    name. Blocks are read on access. Line ends are "\\n" or "\\r\\n", and become "\\n".
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        root = existing(path)
        self.files = files_below(root, (".txt",)) if root.is_dir() else [root]
        self.folder = root if root.is_dir() else root.parent
        if not self.files:
            raise UserError(f"{root} has no .txt files")
        splits = {split: [file] for split, file in as_splits(self.files).items()} if root.is_dir() else {}
        self.keys = {"text": Key(role="text")}
        self.rows = {
            split: Columns({"text": (_Blocks(files, config.encoding), None)})
            for split, files in (splits or {"train": self.files}).items()
        }
        for split, rows in self.rows.items():
            if not len(rows):
                raise UserError(f"{root}: the text of split {split!r} is empty")


class Parallel(FileSource):
    """`parallel:DIR`: lines of source.txt and target.txt that belong together, as `source` and `target`.

    DIR/source.txt and DIR/target.txt give one split, "train"; DIR/SPLIT/source.txt and DIR/SPLIT/target.txt give
    several. Only "\\n" and "\\r\\n" separate lines. With `state`, PATH may be one file of new inputs, `source`.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        root = existing(path)
        if state and root.is_file():
            self.folder, self.files, splits = root.parent, [root], {"train": {"source": root}}
        else:
            found = as_splits(folders(root)) if root.is_dir() else {}
            self.folder = root
            splits = {
                split: {key: existing(folder / f"{key}.txt") for key in ("source", "target")}
                for split, folder in (found or {"train": root}).items()
            }
            self.files = [file for files in splits.values() for file in files.values()]
        self.state = {"keys": ["source", "target"]}
        self.keys = {key: Key(role="text") for key in splits["train"]}
        self.rows = {split: Columns(_lines(files, config.encoding)) for split, files in splits.items()}


def _lines(files: dict[str, Path], encoding: str) -> dict[str, Any]:
    lines = {key: _Lines(file, encoding) for key, file in files.items()}
    counts = {str(files[key]): len(values) for key, values in lines.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{file} has {count}" for file, count in counts.items())
        raise UserError(f"parallel files differ in their numbers of lines: {shown}")
    if not any(counts.values()):
        raise UserError(f"{next(iter(counts))} is empty")
    return {key: (values, None) for key, values in lines.items()}


class _Pieces(Sequence):
    """Parts of a text file, read and decoded on access.

    Attributes:
        offsets: the start of every part, and the end of the last, in bytes.
    """

    offsets: Int64[np.ndarray, "_"]

    def __init__(self, path: Path, encoding: str):
        self.path = path
        self.encoding = encoding or "utf-8"
        with path.open("rb") as file:
            head = file.read(BLOCK)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
            raise UserError(f"{path} is UTF-16, or not a text file: save it as UTF-8")
        try:
            if "\n".encode(self.encoding) != b"\n":
                raise UserError(f"data.encoding {encoding!r} has line ends of several bytes: save {path} as UTF-8")
        except LookupError:
            raise UserError(f"data.encoding {encoding!r} does not exist: use one such as 'utf-8', 'cp1252'") from None
        self.start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        start, stop = int(self.offsets[index]), int(self.offsets[index + 1])
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        try:
            return content.decode(self.encoding).replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise self._undecodable(start + error.start, content[error.start]) from error

    def _undecodable(self, place: int, byte: int) -> UserError:
        with self.path.open("rb") as file:
            line = file.read(place).count(b"\n") + 1
        advice = "cp1252" if self.encoding == "utf-8" else "utf-8"
        return UserError(
            f"{self.path}, line {line}: byte 0x{byte:02x} is not {self.encoding}: set --config.data.encoding={advice}"
        )


class _Block(_Pieces):
    """Blocks of whole lines of one file."""

    def __init__(self, path: Path, encoding: str, size: int):
        super().__init__(path, encoding)
        offsets, end = [self.start], path.stat().st_size
        if end > self.start:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                while offsets[-1] < end:
                    offsets.append(content.find(b"\n", offsets[-1] + size - 1) + 1 or end)
        self.offsets = np.array(offsets, np.int64)


class _Lines(_Pieces):
    """Lines of one file, without line ends."""

    def __init__(self, path: Path, encoding: str):
        super().__init__(path, encoding)
        content = np.fromfile(path, np.uint8)
        ends = np.flatnonzero(content == ord("\n")) + 1
        is_open = len(content) > int(max([self.start, *ends[-1:]]))  # the last line lacks its end
        self.offsets = np.concatenate([[self.start], ends, [len(content)] * is_open]).astype(np.int64)

    def __getitem__(self, index: int) -> str:
        return super().__getitem__(index).removesuffix("\n")


class _Blocks(Sequence):
    """Blocks of several files, one after the other."""

    def __init__(self, files: Sequence[Path], encoding: str):
        size = sum(file.stat().st_size for file in files)
        self.parts = [_Block(file, encoding, min(BLOCK, 1 + size // BLOCKS)) for file in files]
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> str:
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part][index - (int(self.ends[part - 1]) if part else 0)]
