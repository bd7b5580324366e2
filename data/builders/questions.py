"""Questions whose answer is a part of a given text."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data.builders.raw import FromFiles, RawFile

COMMIT = "7d30520c717524000f0d9d2f9c10a069acd9d285"
ENGLISH = RawFile(
    "xquad.en.json",
    f"https://raw.githubusercontent.com/google-deepmind/xquad/{COMMIT}/xquad.en.json",
    "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29",
)
HELD_OUT = 5  # articles of each split besides "train"


class XquadArticles(FromFiles, skip_registration=True):
    """1,190 English questions on 48 articles, `xquad_articles`: `question`, `context`, `answer`, `answer_start`.

    XQuAD has a test split alone, 240 paragraphs of SQuAD's development set. Here its last 5 articles are for testing
    and the 5 before them for validation, so that no paragraph is in two splits. Results do not compare with published
    ones, which train on SQuAD.

    Source: M. Artetxe, S. Ruder, D. Yogatama, On the Cross-lingual Transferability of Monolingual Representations,
    arXiv 1910.11856. Licence: CC BY-SA 4.0.
    """

    name = "xquad_articles"

    def _info(self) -> tfds.core.DatasetInfo:
        texts = dict.fromkeys(("question", "context", "answer"), tfds.features.Text())
        features = {**texts, "answer_start": tfds.features.Scalar(np.int32)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage="https://github.com/google-deepmind/xquad"
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        articles = json.loads(self._read(dl_manager, [ENGLISH])[ENGLISH.name])["data"]
        train, validation = len(articles) - 2 * HELD_OUT, len(articles) - HELD_OUT
        parts = {"train": articles[:train], "validation": articles[train:validation], "test": articles[validation:]}
        return {split: _examples(part) for split, part in parts.items()}


def _examples(articles: Sequence[dict]) -> Iterator[tuple[str, dict[str, Any]]]:
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        for question in paragraph["qas"]:
            (answer,) = question["answers"]
            found = {"answer": answer["text"], "answer_start": answer["answer_start"]}
            yield question["id"], {"question": question["question"], "context": paragraph["context"], **found}
