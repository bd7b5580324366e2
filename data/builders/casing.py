"""Truecasing: one capitalisation class per word."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from data.builders.raw import FromFiles, RawFile

COMMIT = "77f55b912142e11fcfdf5b530231fb9c52f181e8"
ADDRESS = f"https://raw.githubusercontent.com/pytorch/examples/{COMMIT}/word_language_model/data/wikitext-2"
TRAIN = RawFile("valid.txt", f"{ADDRESS}/valid.txt", "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8")
TEST = RawFile("test.txt", f"{ADDRESS}/test.txt", "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0")
ENDS = (".", "?", "!")


class Truecasing(FromFiles, skip_registration=True):
    """Lower-cased sentences of Wikipedia, `truecasing`: `words`, and `case`, the original capitalisation per word.

    Classes: "lower"; "capital", the first letter only; "upper", all of two letters or more; "mixed". A word without
    letters, and <unk>, which stands for rare words, has no class (-1). Made of WikiText-2: its validation articles, the
    last tenth of whose sentences is for validation, and its test articles. Its training articles are left out, so
    results do not compare with published ones.

    Source: S. Merity, C. Xiong, J. Bradbury, R. Socher, Pointer Sentinel Mixture Models, arXiv 1609.07843. The task: L.
    Lita, A. Ittycheriah, S. Roukos, N. Kambhatla, tRuEcasIng, ACL 2003. Licence: CC BY-SA.
    """

    name = "truecasing"
    CLASSES = ("lower", "capital", "upper", "mixed")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "words": tfds.features.Sequence(tfds.features.Text()),
            "case": tfds.features.Sequence(tfds.features.ClassLabel(names=self.CLASSES)),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage="https://arxiv.org/abs/1609.07843"
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        contents = self._read(dl_manager, [TRAIN, TEST])
        train, test = (_sentences(contents[file.name].decode()) for file in (TRAIN, TEST))
        cut = len(train) * 9 // 10
        parts = {"train": train[:cut], "validation": train[cut:], "test": test}
        return {split: _examples(sentences) for split, sentences in parts.items()}


def _sentences(articles: str) -> list[list[str]]:
    """Returns the words of every sentence of the articles' paragraphs; headings are left out."""
    sentences: list[list[str]] = []
    for line in articles.split("\n"):
        words = line.split()
        if not words or words[0] == "=":
            continue
        ends = [i + 1 for i, word in enumerate(words) if word in ENDS]
        bounds = zip([0, *ends], [*ends, len(words)], strict=True)
        sentences += [words[start:stop] for start, stop in bounds if start < stop]
    return sentences


def _examples(sentences: list[list[str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, words in enumerate(sentences):
        yield i, {"words": [word.lower() for word in words], "case": [_case(word) for word in words]}


def _case(word: str) -> int:
    """Returns the number of the word's class, -1 if it has none."""
    letters = [letter for letter in word if letter.lower() != letter.upper()]
    if not letters or word == "<unk>":
        return -1
    if word == word.lower():
        return 0
    if letters[0].isupper() and all(letter.islower() for letter in letters[1:]):
        return 1
    return 2 if all(letter.isupper() for letter in letters) else 3
