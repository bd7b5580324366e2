"""Pictures of shapes with sentences written by people."""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.builders.raw import Archive, FromFiles, RawFile

COMMIT = "18924841aa96d519cfb8584f0945350f07a6d860"
ADDRESS = f"https://raw.githubusercontent.com/lil-lab/nlvr/{COMMIT}/nlvr"
FILES = {
    "train": RawFile(
        "dev.json",
        f"{ADDRESS}/dev/dev.json",
        "0d312c3d7309393c0e36d286c70b884fb276819699e9f8f2bcea2854ad46537b",
    ),
    "test": RawFile(
        "test.json",
        f"{ADDRESS}/test/test.json",
        "9a337ac016455eebe8aef70a6e94977dbcd9e75aec56f0fb09477a9c1038528d",
    ),
}
PICTURES = Archive("nlvr_images.tar", COMMIT, 1_103, "0001a5641b02f7ba83e088b317d38fcf9c04d898d27261096130a4dc36756776")
SIZE = (200, 50)  # width, height


class NLVR(FromFiles, skip_registration=True):
    """Pictures of three boxes of shapes, each with a true sentence, `nlvr`: `image` uint8 [50, 200, 3], `text`.

    The true pairs of NLVR, at half its size: 547 of its development set for training, 556 of its public test set for
    testing; its training set is left out. Several pictures share a sentence, and 23 sentences are in both splits, but
    pictures are not.

    The pictures are not downloaded: clone https://github.com/lil-lab/nlvr and pack its pictures as `nlvr_images.tar`,
    `git archive --output nlvr_images.tar 18924841aa96:nlvr dev/images test/images`.

    Source: A. Suhr, M. Lewis, J. Yeh, Y. Artzi, A Corpus of Natural Language for Visual Reasoning, ACL 2017.
    Licence: CC BY 4.0.
    """

    name = "nlvr"

    def _info(self) -> tfds.core.DatasetInfo:
        width, height = SIZE
        image = tfds.features.Tensor(shape=(height, width, 3), dtype=np.uint8, encoding="zlib")
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"image": image, "text": tfds.features.Text()}),
            homepage="https://lil.nlp.cornell.edu/nlvr/",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        contents = self._read(dl_manager, FILES.values())
        sentences = {split: _true_sentences(file.name, contents[file.name]) for split, file in FILES.items()}
        names = {name for texts in sentences.values() for name in texts}
        pictures = self._unpack(dl_manager, PICTURES, lambda path: path.rpartition("/")[2] in names)
        return {split: _examples(texts, pictures) for split, texts in sentences.items()}


def _true_sentences(file: str, content: bytes) -> dict[str, str]:
    """Returns the sentences of a file, keyed by picture name; of the six box orders, the first is used."""
    rows = [json.loads(line) for line in content.decode().split("\n") if line]
    split = file.removesuffix(".json")
    return {f"{split}-{row['identifier']}-0.png": row["sentence"] for row in rows if row["label"] == "true"}


def _examples(sentences: Mapping[str, str], pictures: Mapping[str, bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, text in sentences.items():
        image = Image.open(io.BytesIO(pictures[name])).convert("RGB").resize(SIZE, Image.Resampling.BOX)
        yield name, {"image": np.asarray(image), "text": text}
