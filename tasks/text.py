"""Token ids as text, for the metrics that are of words and characters."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

# n: sentences, l: their padded length

PAD, BEGIN, END = 0, 1, 2  # ids that stand for no word


def as_text(
    ids: Int[np.ndarray, "n l"], detokenize: Callable | None, special: tuple[int, ...] = (PAD, BEGIN, END)
) -> list[str]:
    """Returns the text of each row without its special tokens.

    Args:
        detokenize: ids -> text. None: every id is a word, for sets that are generated and have no tokenizer.
    """
    rows = (row[~np.isin(row, special)] for row in ids)
    return [detokenize(row) if detokenize else " ".join(map(str, row)) for row in rows]
