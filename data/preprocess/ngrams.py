"""Texts as weighted bags of n-grams of words and of characters."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from tokenizers import Tokenizer, models

from core.errors import UserError
from core.info import Key
from core.vocabulary import Vocabulary
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys, column
from data.preprocess.tokenize import check_free, check_texts
from data.splits import text_key

Range = tuple[int, int]  # the shortest and the longest n-grams; (0, 0): none


@dataclasses.dataclass(frozen=True)
class Ngrams(Op):
    """Turns strings into the ids of their different n-grams, and `<key>_mask` into the weights of these.

    Weights are TF-IDF: (1 + log(count in the text)) * (1 + log((1 + texts) / (1 + training texts with the n-gram))),
    scaled to a Euclidean norm of 1 for the words of a text and for its characters. N-grams of characters lie within a
    word, with the spaces around it, and all are of lower case. N-grams that the vocabulary lacks are left out. The
    unchanged strings stay under the key `<key>_text`.

    Source: scikit-learn's `TfidfVectorizer` with sublinear counts.

    Args:
        key: a key of strings.
        words: lengths of the n-grams of words, punctuation marks included; (0, 0) for none.
        characters: lengths of those of characters.
        min_texts: n-grams of fewer training texts are left out.
        size: the most n-grams of words, and of characters, in the vocabulary: the most frequent ones.

    Raises UserError for a key without strings, and for training texts that share no n-gram.
    """

    key: str
    words: Range = (1, 2)
    characters: Range = (2, 5)
    min_texts: int = 2
    size: int = 50_000

    stored: ClassVar[bool] = True

    def __post_init__(self):
        for name in ("words", "characters"):
            low, high = getattr(self, name)
            if (low, high) != (0, 0) and not 0 < low <= high:
                raise ValueError(f"{name} must be two numbers, 0 < shortest <= longest, or (0, 0), not {(low, high)}")
        if self.words == self.characters == (0, 0):
            raise ValueError("words and characters are (0, 0): no n-grams are left")
        if self.min_texts < 1 or self.size < 1:
            raise ValueError(f"min_texts ({self.min_texts}) and size ({self.size}) must be at least 1")

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({self.key, text_key(self.key), f"{self.key}_mask"})

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, Any]:
        """Returns kind -> its n-grams and their inverse document frequencies."""
        check_keys("ngrams", (self.key,), keys, ("text",))
        check_free("ngrams", (self.key,), keys)
        texts = [text for text in column(splits["train"], self.key) if isinstance(text, str)]
        state = {}
        for kind, options in self._kinds():
            vectorizer = TfidfVectorizer(**options, min_df=self.min_texts, max_features=self.size)
            try:
                vectorizer.fit(texts)
            except ValueError as error:  # no n-gram is left, or all texts are empty
                reason = f"fewer than {self.min_texts} texts share any n-gram of {kind}: set min_texts=1"
                raise UserError(f"data.preprocess: ngrams: {self.key!r}: {reason}") from error
            state[kind] = {"ngrams": vectorizer.get_feature_names_out().tolist(), "idf": vectorizer.idf_.tolist()}
        return state

    def describe(self, keys: Keys, state: dict[str, Any]) -> Keys:
        names = [f"{kind} {ngram}" for kind, fitted in state.items() for ngram in fitted["ngrams"]]
        tokenizer = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}))
        keys[text_key(self.key)] = keys[self.key]
        keys[self.key] = Key(role="tokens", vocabulary=Vocabulary.of(tokenizer), ragged=True)
        keys[f"{self.key}_mask"] = Key(role="mask", ragged=True)
        return keys

    def __call__(self, chunk: Chunk, state: dict[str, Any]) -> Chunk:
        if self.key not in chunk:
            return chunk
        check_texts("ngrams", self.key, chunk)
        found = self._weighed(chunk[self.key], state)
        rows = list(zip(found.indptr[:-1], found.indptr[1:], strict=True))
        dtype = np.uint16 if found.shape[1] <= 2**16 else np.int32
        return chunk | {
            text_key(self.key): chunk[self.key],
            self.key: [found.indices[start:stop].astype(dtype) for start, stop in rows],
            f"{self.key}_mask": [found.data[start:stop] for start, stop in rows],
        }

    def _weighed(self, texts: Sequence[str] | np.ndarray, state: dict[str, Any]) -> sparse.csr_matrix:
        """Returns the weight of each n-gram [texts, vocabulary], in the order of the ids."""
        parts = []
        for kind, options in self._kinds():
            vectorizer = TfidfVectorizer(**options, vocabulary=state[kind]["ngrams"])
            vectorizer.idf_ = np.array(state[kind]["idf"])
            parts.append(vectorizer.transform(texts))
        found = sparse.hstack(parts, "csr", np.float32)
        found.sort_indices()
        return found

    def _kinds(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the kinds of n-grams with scikit-learn's arguments for each."""
        shared = {"sublinear_tf": True, "lowercase": True}
        if self.words != (0, 0):
            yield "words", shared | {"ngram_range": self.words, "token_pattern": r"\w+|[^\w\s]"}
        if self.characters != (0, 0):
            yield "characters", shared | {"ngram_range": self.characters, "analyzer": "char_wb"}
