"""Made-up files: images and sounds."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import wavfile


def draw(path: Path, value: int | tuple[int, ...], size: tuple[int, int] = (6, 4), mode: str = "L") -> None:
    """Writes an image of one colour; `size` is width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def play(path: Path, hertz: float, rate: int = 8_000, seconds: float = 0.1) -> None:
    """Writes a tone of amplitude 0.5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    wavfile.write(path, rate, np.round(2**14 * np.sin(2 * np.pi * hertz * time)).astype(np.int16))
