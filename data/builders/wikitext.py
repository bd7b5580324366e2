"""Articles of Wikipedia as running text."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from data.builders.casing import TEST, TRAIN
from data.builders.raw import FromFiles

TITLE = re.compile(r"^ = [^=].* = $", re.MULTILINE)  # sections have more "="


class WikitextSmall(FromFiles, skip_registration=True):
    """The validation and test articles of WikiText-2, 455,000 words, `wikitext_small`: `text`, an article per
    example. The last 6 are for validation, the 6 before them for testing. The training articles of WikiText-2 are left
    out because they are large, so results do not compare with published ones.

    Words are separated by spaces, as published; <unk> stands for rare words, and " @-@ " for a hyphen.

    Source: S. Merity, C. Xiong, J. Bradbury, R. Socher, Pointer Sentinel Mixture Models, arXiv 1609.07843. Licence: CC
    BY-SA.
    """

    name = "wikitext_small"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            homepage="https://arxiv.org/abs/1609.07843",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        contents = self._read(dl_manager, [TRAIN, TEST])
        articles = [article for file in (TRAIN, TEST) for article in _articles(contents[file.name].decode())]
        parts = {"train": articles[:-12], "test": articles[-12:-6], "validation": articles[-6:]}
        return {split: _examples(part) for split, part in parts.items()}


def _articles(text: str) -> list[str]:
    starts = [match.start() for match in TITLE.finditer(text)]
    return [text[start:stop].strip() + "\n" for start, stop in zip(starts, [*starts[1:], len(text)], strict=True)]


def _examples(articles: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, article in enumerate(articles):
        yield i, {"text": article}
