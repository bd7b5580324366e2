"""jax's persistent compilation cache with a checksum per entry: jax loads what lies there, and never replaces it.

An entry is machine code. A kill in the middle of its write, two processes that write it, or a disk can damage it: jax
then prints warnings at every start, or runs other code.
"""

import zlib
from pathlib import Path

from jax._src import compilation_cache  # the class of the cache cannot be set through a public name
from jax._src.lru_cache import LRUCache


class Checked(LRUCache):
    """Removes an entry without a matching checksum, so that the program is compiled again and written again."""

    def get(self, key: str) -> bytes | None:
        value = super().get(key)
        if value is not None and self._read(key) != checksum(value):
            Path(self.path / f"{key}-cache").unlink(missing_ok=True)
            return None
        return value

    def put(self, key: str, value: bytes) -> None:
        super().put(key, value)
        self._file(key).write_text(checksum(value))

    def _file(self, key: str) -> Path:
        return Path(self.path / f"{key}-crc32")

    def _read(self, key: str) -> str:
        file = self._file(key)
        return file.read_text(errors="replace") if file.exists() else ""


def checksum(value: bytes) -> str:
    """Returns the CRC-32 of an entry in hexadecimal digits."""
    return f"{zlib.crc32(value):08x}"


def use() -> None:
    """Makes jax use the checked cache; call it before the first compilation."""

    def opened(path: str) -> tuple[LRUCache, str]:
        return Checked(path, max_size=compilation_cache.config.compilation_cache_max_size.value), path

    compilation_cache.get_file_cache = opened
