"""Handwritten digits, 8 x 8. Not registered with TFDS: `BUILDERS` finds it, and official names stay free."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


def scans() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Returns the images uint8 [n, 8, 8, 1] (17 grey levels spread over 0..255), their digits [n], and for each split
    the positions of its examples.
    """
    from sklearn.datasets import load_digits  # 2 s: only when preparing
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    parts = train_test_split(np.arange(len(images)), test_size=0.2, stratify=digits.target, random_state=0)
    return images, digits.target, dict(zip(("train", "test"), parts, strict=True))


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """1797 handwritten digits of the UCI ML repository, as scikit-learn ships them.

    `image` uint8 [8, 8, 1] (17 grey levels spread over 0..255), `label` 0..9; 1437 for training and 360 for testing,
    with the same share of each digit. scikit-learn ships only the test part of the UCI set, so the same writer may be
    in both of these splits.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    doi:10.24432/C50P49. Licence: CC BY 4.0.
    """

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8)  # Image would need TensorFlow to encode
        label = tfds.features.ClassLabel(num_classes=10)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        images, digits, parts = scans()
        return {
            split: ((int(i), {"image": images[i], "label": int(digits[i])}) for i in indices)
            for split, indices in parts.items()
        }

    def _generate_examples(self) -> None:
        raise NotImplementedError("the generators are made in _split_generators")
