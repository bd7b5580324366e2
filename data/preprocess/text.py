"""Converts the strings of a set to token ids, with one tokenizer per key, fitted on the training split."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int32
from ml_collections import ConfigDict
from tokenizers import Tokenizer, processors

from core import names
from core.errors import UserError, nearest
from data.preprocess import tokenizers
from data.preprocess.examples import Batch, narrow, stack
from data.preprocess.tokenizers import BOS, EOS, SPECIALS, Fit
from data.preprocess.windows import language_windows

Columns = dict[str, list[np.ndarray]]  # key -> one array per example
Texts = dict[str, list[str]]  # key -> one text per example
Ids = list[Int32[np.ndarray, "_"]]


def check(config: ConfigDict) -> Fit | None:
    """Returns the call that fits a tokenizer, or None if `config` names no text. Reads no data.

    Raises:
        UserError: keys of the group that contradict each other, or an unknown tokenizer.
    """
    if bool(config.text) != bool(config.tokenizer):
        raise UserError(
            f"data.text {config.text} and data.tokenizer {config.tokenizer!r} go together: the keys that hold text, "
            "and the call that tokenises it, such as 'words(size=10000)'"
        )
    if any(not isinstance(key, str) for key in config.text):
        raise UserError(f"data.text must hold names of keys, not {config.text}")
    if config.references and (config.window or not config.text):
        raise UserError(f"data.references {config.references!r} need a text: set data.text, and unset data.window")
    if config.window and not config.horizon and len(config.text) != 1:
        raise UserError(f"data.window cuts one running text: data.text must name one key, not {config.text}")
    if config.horizon and (config.text or not config.window):
        raise UserError("data.horizon forecasts a series: set data.window, the steps of its past, and unset data.text")
    if config.eval_window and (config.horizon or not config.window):
        raise UserError("data.eval_window is for windows of a running text: set data.window, and unset data.horizon")
    if config.tags and (config.window or config.target or not config.text):
        raise UserError(
            f"data.tags {config.tags!r} belong to the words of data.text: set it, unset data.window and data.target"
        )
    if config.max_length and (config.window or not config.text):
        raise UserError("data.max_length truncates texts: set data.text, and unset data.window")
    if 0 < config.max_length < 3:
        raise UserError(f"data.max_length must be 0 or above 2, as <bos> and <eos> count, not {config.max_length}")
    return names.call(tokenizers, config.tokenizer, "config.data.tokenizer") if config.text else None


def keys(config: ConfigDict) -> tuple[str, ...]:
    """Returns the keys whose strings are read: the texts, and the references for the last one."""
    return (*config.text, *filter(None, (config.references,)))


def check_keys(keys: Sequence[str], strings: Iterable[str], others: Iterable[str]) -> None:
    """Raises UserError if one of `keys` is not among the keys that hold `strings`; `others` are all keys."""
    strings, others = list(strings), set(others)
    for key in keys:
        if key not in strings:
            what = "holds no strings" if key in others else "does not exist"
            raise UserError(f"data.text: {key!r} {what}: {nearest(key, strings)}")


def of_frame(frame: pd.DataFrame, keys: Sequence[str]) -> Texts:
    """Returns the texts of a table's columns.

    Raises:
        UserError: a column is not text, or has missing values.
    """
    kinds = {str(name): pd.api.types.infer_dtype(frame[name].astype(object), skipna=True) for name in frame.columns}
    check_keys(keys, [name for name, kind in kinds.items() if kind == "string"], kinds)
    for key in keys:
        if missing := int(frame[key].isna().sum()):
            raise UserError(f"data.text: {key!r} is missing in {missing} of {len(frame)} rows")
    return {key: frame[key].tolist() for key in keys}


def numbers(frame: pd.DataFrame) -> Columns:
    """Returns a table's numeric columns (NaN where missing) and booleans; others are dropped."""
    kept = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, np.dtype) and dtype.kind in "biuf"]
    return {str(name): list(map(np.asarray, narrow(frame[name].to_numpy()))) for name in kept}


def taken(columns: Columns, keys: Sequence[str], count: int) -> Texts:
    """Returns the texts of `count` collected examples, removed from `columns`. Raises UserError if one is missing."""
    texts = {key: [value.item() for value in columns.pop(key, [])] for key in keys}
    for key, values in texts.items():
        if len(values) < count:
            raise UserError(f"data.text: {key!r} is missing in {count - len(values)} of {count} examples")
    return texts


def check_size(columns: Mapping[str, Columns], lengths: Mapping[str, int], memory_gb: float) -> None:
    """Raises UserError if token ids, padded to `lengths`, and their masks would not fit in memory."""
    for key, length in lengths.items():
        count = sum(len(values[key]) for values in columns.values())
        if (needed := 8 * count * length / 1e9) > memory_gb:
            raise UserError(
                f"data.text: {count} texts {key!r} padded to {length} tokens need {needed:.1f} GB, above "
                f"data.memory_gb={memory_gb}: set data.max_length, or data.window for a running text"
            )


def fit(recipe: Fit, texts: Texts, max_length: int = 0) -> dict[str, Tokenizer]:
    """Returns a tokenizer per key that puts every text between <bos> and <eos> and truncates it to at most `max_length`
    tokens, these two included (0: never)."""
    fitted = {key: recipe(values) for key, values in texts.items()}
    for tokenizer in fitted.values():
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{SPECIALS[BOS]} $A {SPECIALS[EOS]}",
            special_tokens=[(SPECIALS[BOS], BOS), (SPECIALS[EOS], EOS)],
        )
        if max_length:
            tokenizer.enable_truncation(max_length)
    return fitted


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Ids:
    """Returns the token ids of every text, computed on all cores."""
    return [np.array(encoding.ids, np.int32) for encoding in tokenizer.encode_batch_fast(list(texts))]


def encode_lines(tokenizer: Tokenizer, texts: Mapping[str, list[str]]) -> dict[str, Int32[np.ndarray, "n r t"]]:
    """Returns every line of each split's texts as a row of token ids. Zeros fill rows; texts with fewer lines end with
    rows of zeros."""
    ids = {split: [encode(tokenizer, value.splitlines()) for value in values] for split, values in texts.items()}
    lines = [line for values in ids.values() for value in values for line in value]
    shape = max(len(value) for values in ids.values() for value in values), max(map(len, lines))
    arrays = {split: np.zeros((len(values), *shape), np.int32) for split, values in ids.items()}
    for split, values in ids.items():
        for i, value in enumerate(values):
            for j, line in enumerate(value):
                arrays[split][i, j, : len(line)] = line
    return arrays


def padded(key: str, tokenizer: Tokenizer, texts: Sequence[str]) -> Batch:
    """Returns the texts as a batch: `<key>` int32 [b, t], padded to the longest, with `_mask` and `_lengths`."""
    ids = encode(tokenizer, texts)
    return stack({key: ids}, {key: max(map(len, ids))})


def windows(
    recipe: Fit, texts: Mapping[str, list[str]], size: int, eval_size: int
) -> tuple[dict[str, Batch], Tokenizer]:
    """Returns the windows of each split's running text, which is the concatenation of its texts without special
    tokens, and the tokenizer.

    Args:
        texts: split -> texts.
        size: tokens per window of the split "train"; `eval_size` for the others.

    Raises:
        UserError: a text is too short.
    """
    tokenizer = recipe(texts["train"])
    arrays = {}
    for split, values in texts.items():
        ids = np.concatenate(encode(tokenizer, values))
        arrays[split] = language_windows(ids, size if split == "train" else eval_size)
    return arrays, tokenizer
