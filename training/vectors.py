"""Vectors of words from a text file as the start of a run: `config.init_from = "vectors:FILE"`.

A line of the file is a word and its numbers, separated by spaces (GloVe); a first line with the numbers of words and of
dimensions (word2vec's text format) is skipped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from core.errors import UserError
from core.vocabulary import Vocabulary, load_tokenizer

# v: tokens of the vocabulary; d: dimensions

PREFIX = "vectors:"


def filled(
    path: str, tables: Mapping[str, Float[np.ndarray, "v d"]], vocabulary: Vocabulary | None
) -> tuple[dict[str, np.ndarray], str]:
    """Returns the tables with the file's vectors in the rows of its words, and a line that counts these words.

    A word must be spelled as in the vocabulary; the others keep their rows (Kim 2014, arXiv 1408.5882, section 3.1).

    Raises UserError for a file that cannot be read, or has vectors of another length or of none of the words.
    """
    file = path.removeprefix(PREFIX)
    if vocabulary is None or not vocabulary.tokenizer or not tables:
        raise UserError(f"config.init_from {path!r}: vectors need a model that embeds words")
    width = next(iter(tables.values())).shape[1]
    vectors = _read(file, load_tokenizer(vocabulary.tokenizer).get_vocab(), width)
    if not vectors:
        raise UserError(f"config.init_from {path!r}: no word of the vocabulary has a vector in this file")
    tables = {name: np.array(table) for name, table in tables.items()}
    for table in tables.values():
        table[list(vectors)] = list(vectors.values())
    return tables, f"{len(vectors):,} of {vocabulary.size:,} words have a vector in {file}"


def _read(file: str, ids: Mapping[str, int], width: int) -> dict[int, Float[np.ndarray, "d"]]:
    """Returns the vectors of the words in `ids`, by id."""
    found: dict[int, np.ndarray] = {}
    try:
        with Path(file).expanduser().open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                word, *numbers = line.rstrip().split(" ")
                is_header = number == 1 and len(numbers) == 1
                if word in ids and not is_header:
                    found[ids[word]] = _vector(numbers, width, f"line {number} of {file}")
    except OSError as error:
        raise UserError(f"config.init_from: {file} cannot be read: {error.strerror}") from error
    return found


def _vector(numbers: Sequence[str], width: int, where: str) -> Float[np.ndarray, "d"]:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError as error:
        raise UserError(f"config.init_from: {where} is not a word and its numbers") from error
    if len(vector) != width:
        raise UserError(
            f"config.init_from: {where} has {len(vector)} numbers, and the model's vectors {width}: "
            f"set config.model.embedding_width={len(vector)}"
        )
    return vector
