"""Penguins: a table with numbers, categories and missing values."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from data.builders.raw import FromFiles, RawFile

FILE = RawFile(
    "penguins.csv",
    "https://raw.githubusercontent.com/allisonhorst/palmerpenguins/8957207b78d6ccd1b4654a9dd9c9041b657478ab/inst/extdata/penguins.csv",
    "f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93",
)
CATEGORIES = {
    "species": ("Adelie", "Chinstrap", "Gentoo"),
    "island": ("Biscoe", "Dream", "Torgersen"),
    "sex": ("female", "male"),
}
NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year")


class PalmerPenguins(FromFiles, skip_registration=True):
    """344 penguins on three islands, `palmer_penguins`: `species` (three), `island`, `sex`, four measurements, `year`.

    Fixed 80% train, 20% test, stratified by species. Two penguins lack the measurements (NaN), eleven the sex (-1).

    Source: K. Gorman, T. Williams, W. Fraser, PLoS ONE 9(3) e90081 (2014); A. Horst, A. Hill, K. Gorman,
    palmerpenguins, doi:10.5281/zenodo.3960218. Licence: CC0.
    """

    name = "palmer_penguins"

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            key: tfds.features.ClassLabel(names=list(names)) for key, names in CATEGORIES.items()
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features | dict.fromkeys(NUMBERS, np.float32)),
            homepage="https://allisonhorst.github.io/palmerpenguins/",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        from sklearn.model_selection import train_test_split

        table = pd.read_csv(io.BytesIO(self._read(dl_manager, [FILE])[FILE.name]))
        train, test = train_test_split(table, test_size=0.2, stratify=table["species"], random_state=0)
        return {"train": _examples(train), "test": _examples(test)}


def _examples(table: pd.DataFrame) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, row in table.iterrows():
        categories = {key: -1 if pd.isna(row[key]) else row[key] for key in CATEGORIES}
        yield i, {**categories, **{key: float(row[key]) for key in NUMBERS}}
