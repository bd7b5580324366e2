"""News topics, as text."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data.builders.raw import FromFiles, RawFile

TEST = RawFile(
    "test.csv",
    "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/555590db4219b1243abb1918effd6a7425a2d75f/data/ag_news_csv/test.csv",
    "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
)
SIZES = {"train": 5_600, "validation": 400, "test": 1_600}


class AGNewsTopics(FromFiles, skip_registration=True):
    """7,600 news items in four topics, `ag_news_topics`: `text` (title and description), `label`.

    Only the official test file of AG's News, because it is small; its rows, in one fixed random order, form the splits:
    5,600 for training, 400 for validation, 1,600 for testing. Results therefore do not compare with those published for
    AG's News, which train on 120,000. Text is as published (" #39;" for an apostrophe), except that stray backslashes
    become spaces.

    Source: X. Zhang, J. Zhao, Y. LeCun, Character-level Convolutional Networks for Text Classification, arXiv
    1509.01626; A. Gulli, AG's corpus of news articles. Licence: for research and any other non-commercial activity.
    """

    name = "ag_news_topics"
    CLASSES = ("World", "Sports", "Business", "Sci/Tech")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=self.CLASSES)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        content = self._read(dl_manager, [TEST])[TEST.name].decode()
        rows = list(csv.reader(io.StringIO(content)))
        order = np.random.default_rng(0).permutation(len(rows))
        parts = np.split(order, np.cumsum(list(SIZES.values()))[:-1])
        return {split: _examples(rows, part) for split, part in zip(SIZES, parts, strict=True)}


def _examples(rows: Sequence[Sequence[str]], indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    for i in indices.tolist():
        topic, title, description = rows[i]
        yield i, {"text": f"{title} {description}".replace("\\", " ").strip(), "label": int(topic) - 1}
