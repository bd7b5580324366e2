"""Text files as strings, whatever their encoding."""

import codecs
from pathlib import Path

from core.errors import UserError

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(file: Path, encoding: str = "") -> str:
    """Returns the content of a text file without its byte order mark; line ends stay as they are.

    Args:
        encoding: Python's name of the encoding; "" is UTF-16 if the file begins with its byte order mark, else UTF-8.

    Raises UserError for an unknown encoding, and for bytes that are not text in this encoding, with their line.
    """
    data = file.read_bytes()
    name = encoding or ("utf-16" if data.startswith(UTF_16) else "utf-8")
    try:
        text = data.decode(name)
    except LookupError as error:
        raise UserError(f"data.encoding {encoding!r} is not an encoding: try 'utf-8', 'cp1252', 'latin-1'") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{file}: line {line} is not {name}: give the encoding, such as --config.data.encoding=cp1252"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(
            f"{file}: line {line} holds a zero byte: not a text file, or UTF-16 (--config.data.encoding=utf-16-le)"
        )
    return text.removeprefix("\ufeff")
