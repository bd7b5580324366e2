"""Four small tables that ship inside scikit-learn: named columns, and `label` (classes) or `target` (a number)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


class _Table(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Columns as float32 scalars under scikit-learn's names; fixed 80% train, 20% test, stratified by class."""

    VERSION = tfds.core.Version("1.0.0")

    def _load(self) -> Any:
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        bunch = self._load()
        features = {_column(name): np.float32 for name in bunch.feature_names}
        if "target_names" in bunch:
            features["label"] = tfds.features.ClassLabel(names=[str(name) for name in bunch.target_names])
        else:
            features["target"] = np.float32
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        from sklearn.model_selection import train_test_split

        bunch = self._load()
        classes = bunch.target if "target_names" in bunch else None
        parts = train_test_split(np.arange(len(bunch.data)), test_size=0.2, stratify=classes, random_state=0)
        train, test = (self._generate_examples(bunch, part) for part in parts)
        return {"train": train, "test": test}

    def _generate_examples(self, bunch: Any, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        columns = [_column(name) for name in bunch.feature_names]
        for i in indices:
            target = {"label": int(bunch.target[i])} if "target_names" in bunch else {"target": float(bunch.target[i])}
            yield int(i), {**dict(zip(columns, map(float, bunch.data[i]), strict=True)), **target}


def _column(name: str) -> str:
    return name.replace("/", " over ")  # "/" nests features


class BreastCancer(_Table, skip_registration=True):
    """569 tumours, 30 measurements of cell nuclei; malignant or benign.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning
    Repository, 1995, doi:10.24432/C5DW2B. Licence: CC BY 4.0.
    """

    name = "breast_cancer"

    def _load(self) -> Any:
        from sklearn.datasets import load_breast_cancer

        return load_breast_cancer()


class Wine(_Table, skip_registration=True):
    """178 wines of three cultivars, 13 chemical measurements.

    Source: S. Aeberhard and M. Forina, Wine, UCI Machine Learning Repository, 1992, doi:10.24432/C5PC7J.
    Licence: CC BY 4.0.
    """

    name = "wine"

    def _load(self) -> Any:
        from sklearn.datasets import load_wine

        return load_wine()


class Iris(_Table, skip_registration=True):
    """150 irises of three species, 4 lengths in cm.

    Source: R. A. Fisher, Iris, UCI Machine Learning Repository, 1936, doi:10.24432/C56C76. Licence: CC BY 4.0.
    """

    name = "iris"

    def _load(self) -> Any:
        from sklearn.datasets import load_iris

        return load_iris()


class Diabetes(_Table, skip_registration=True):
    """442 patients, 10 measurements in their own units; `target`: progression of the disease after a year (25 to 346).

    Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, Annals of Statistics 32 (2004),
    https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html; as scikit-learn ships it (BSD-3-Clause).
    """

    name = "diabetes"

    def _load(self) -> Any:
        from sklearn.datasets import load_diabetes

        return load_diabetes(scaled=False)
