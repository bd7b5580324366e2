"""Damaged entries of the compilation cache are compiled again, and replaced."""

import os
import subprocess
import sys

import pytest

from tests.training.commands import ROOT
from training.compilation_cache import Checked

PROGRAM = """
from training import compilation_cache
compilation_cache.use()
import jax
print(jax.jit(lambda x: jax.numpy.sin(x) * 3)(1.0))
"""
DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_replaced(damage, tmp_path):
    cache = Checked(str(tmp_path), max_size=-1)
    assert cache.get("a") is None
    cache.put("a", b"code of a program")
    assert cache.get("a") == b"code of a program"
    (file,) = tmp_path.glob("a-cache")
    file.write_bytes(damage(file.read_bytes()))
    assert cache.get("a") is None
    cache.put("a", b"code of a program")
    assert Checked(str(tmp_path), max_size=-1).get("a") == b"code of a program"


def test_an_entry_without_a_checksum_is_not_used(tmp_path):
    cache = Checked(str(tmp_path), max_size=-1)
    cache.put("a", b"code of a program")
    next(tmp_path.glob("a-crc32")).unlink()  # killed before it was written
    assert cache.get("a") is None and not (tmp_path / "a-cache").exists()


def test_a_program_with_a_damaged_cache(tmp_path):
    """jax itself prints a warning at each start."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    content = {}
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert float(done.stdout) == pytest.approx(2.524413), done.stderr
        assert "cache" not in done.stderr
        content.update((file, file.read_bytes()) for file in tmp_path.glob("*-cache"))
        assert content and all(file.stat().st_size == len(content[file]) for file in content)
        for file in content:
            file.write_bytes(content[file][:100])
