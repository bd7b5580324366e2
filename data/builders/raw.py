"""Base class of sets whose raw files are published elsewhere: read from the user's disk, or downloaded."""

import dataclasses
import gzip
import hashlib
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from core.errors import UserError


@dataclasses.dataclass(frozen=True)
class RawFile:
    """A published file.

    Attributes:
        name: the file's name.
        url: an address with fixed contents (of a commit or a tag).
        sha256: of the contents.
    """

    name: str
    url: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Archive:
    """Files of a published repository in a tar that users make, since single downloads would be too many.

    Attributes:
        name: the tar's name.
        commit: the commit of the files.
        count: the number of the files.
        sha256: over the sha256 of the files, ordered by name.
    """

    name: str
    commit: str
    count: int
    sha256: str


class FromFiles(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of sets made of raw files.

    A file is read from TFDS's folder for manual downloads, `<data_dir>/downloads/manual/<set>/<file>`, plain or with
    the suffix `.gz`, and downloaded if it is not there. Its sha256 is checked in both cases.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _folder(self, dl_manager: Any) -> Path:
        return Path(dl_manager.download_dir) / "manual" / self.name

    def _read(self, dl_manager: Any, files: Iterable[RawFile]) -> dict[str, bytes]:
        """Returns the contents of `files` by name.

        Raises:
            UserError: a file is not on the disk and cannot be downloaded, or its sha256 differs.
        """
        folder, files = self._folder(dl_manager), list(files)
        paths = {file.name: path for file in files if (path := _on_disk(folder, file.name))}
        missing = {file.name: file.url for file in files if file.name not in paths}
        if missing:
            try:
                paths |= dl_manager.download(missing)
            except Exception as error:  # from the network or TFDS
                names, urls = ", ".join(missing), ", ".join(missing.values())
                failed = f"could not be downloaded ({type(error).__name__})"
                raise UserError(f"{names} {failed}: put the contents of {urls} into {folder}") from error
        return {file.name: _verified(file, Path(paths[file.name])) for file in files}

    def _unpack(self, dl_manager: Any, archive: Archive, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Returns the contents of the files of an archive whose paths are `wanted`, by their names without folders.

        Raises:
            UserError: the tar does not exist, or its files are not the published ones.
        """
        path = self._folder(dl_manager) / archive.name
        if not path.is_file():
            place = f"{type(self).__module__}.{type(self).__name__}"
            raise UserError(f"{self.name} needs {path}: make it as described in the docstring of {place}")
        with tarfile.open(path) as tar:
            members = {file.name.rpartition("/")[2]: file for file in tar if file.isfile() and wanted(file.name)}
            contents = {name: tar.extractfile(members[name]).read() for name in sorted(members)}
        hashes = (hashlib.sha256(content).digest() for content in contents.values())
        if hashlib.sha256(b"".join(hashes)).hexdigest() != archive.sha256:
            found = f"{len(contents)} of {archive.count} found"
            raise UserError(f"{path} lacks the files of {self.name} at {archive.commit[:12]}: {found}")
        return contents

    def _generate_examples(self) -> None:
        raise NotImplementedError("the generators are made in _split_generators")


def _on_disk(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _verified(file: RawFile, path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == f"{file.name}.gz":
        content = gzip.decompress(content)
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise UserError(f"{path} differs from {file.url}: its sha256 is {digest[:12]}..., not {file.sha256[:12]}...")
    return content
