"""Answers to questions about texts without a network."""

import itertools
import re

import numpy as np
from jaxtyping import Int
from sklearn.feature_extraction.text import TfidfVectorizer

from data.splits import Split

# b: questions


def closest_sentences(train: Split, test: Split) -> dict[str, Int[np.ndarray, "b"]]:
    """Returns the "first" and "last" token of the sentence whose words, weighted by TF-IDF, are closest to the
    question's. Both are 0, no answer, if the sentence is not among the example's tokens.
    """
    indices = np.arange(len(test))
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(train.text("context", np.arange(len(train))))
    pairs = zip(test.text("context", indices), test.text("question", indices), strict=True)
    spans = [_closest(text, question, vectorizer) for text, question in pairs]
    found = [
        np.flatnonzero((places[:, 0] >= start) & (places[:, 1] <= end) & (places[:, 1] > places[:, 0]))
        for places, (start, end) in zip(test.batch(indices)["offsets"], spans, strict=True)
    ]
    edges = np.array([(tokens[0], tokens[-1]) if len(tokens) else (0, 0) for tokens in found])
    return {"first": edges[:, 0], "last": edges[:, 1]}


def _closest(text: str, question: str, vectorizer: TfidfVectorizer) -> tuple[int, int]:
    """Returns where the closest sentence of a text begins and ends."""
    sentences = list(itertools.pairwise([0, *(end.end() for end in re.finditer(r"[.!?]\s+", text)), len(text)]))
    weights = vectorizer.transform([text[start:end] for start, end in sentences])
    return sentences[int((weights @ vectorizer.transform([question]).T).toarray().argmax())]
