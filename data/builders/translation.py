"""Translation: pairs of sentences as text."""

import dataclasses
import gzip
import itertools
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from data.builders.raw import FromFiles, RawFile

LANGUAGES = ("de", "en", "fr")
SPLITS = {
    "train": "train",
    "validation": "val",
    "test_2016": "test_2016_flickr",
    "test_2017": "test_2017_flickr",
    "test_2018": "test_2018_flickr",
    "test_2017_mscoco": "test_2017_mscoco",
}
ADDRESS = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
SHA256 = {
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "test_2017_flickr.de.gz": "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee",
    "test_2017_flickr.en.gz": "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
    "test_2017_flickr.fr.gz": "3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496",
    "test_2018_flickr.de.gz": "ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608",
    "test_2018_flickr.en.gz": "ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d",
    "test_2018_flickr.fr.gz": "fb2b83fcceb937a4f7e3e93c1c51c22aba92f1e342391e6b5ba392b16a920501",
    "test_2017_mscoco.de.gz": "799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338",
    "test_2017_mscoco.en.gz": "aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58",
    "test_2017_mscoco.fr.gz": "754f3072ba9f124569ba5258b32730fc1d214bbf8e0c6dfb2b74401676220db0",
}


@dataclasses.dataclass(kw_only=True, eq=False)
class Direction(tfds.core.BuilderConfig):
    """`source` and `target`: the languages."""

    source: str
    target: str


class Multi30k(FromFiles, skip_registration=True):
    """Multi30k, `multi30k/de-en` and every other pair of de, en, fr: `source` and `target`, one sentence each.

    Descriptions of pictures in English and their human translations, as published (not tokenised, not lower-cased).
    29,000 for training, 1,014 for `validation`; `test_2016` 1,000, `test_2017` 1,000, `test_2018` 1,071, and
    `test_2017_mscoco` 461 of other pictures, with ambiguous verbs.

    Source: D. Elliott, S. Frank, K. Sima'an, L. Specia, Multi30K, arXiv 1605.00459 (German); D. Elliott, S. Frank,
    L. Barrault, F. Bougares, L. Specia, arXiv 1710.07177 (French, 2017); L. Barrault and others, WMT 2018 (2018).
    Licence: none stated; for non-commercial research and education, citing the papers (README of github.com/multi30k).
    """

    name = "multi30k"
    BUILDER_CONFIGS = [
        Direction(name=f"{source}-{target}", source=source, target=target)
        for source, target in itertools.permutations(LANGUAGES, 2)
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        text = {"source": tfds.features.Text(), "target": tfds.features.Text()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(text), homepage="https://github.com/multi30k/dataset"
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        config = self.builder_config
        pairs = {
            split: [f"{part}.{language}.gz" for language in (config.source, config.target)]
            for split, part in SPLITS.items()
        }
        names = itertools.chain.from_iterable(pairs.values())
        contents = self._read(dl_manager, [RawFile(name, f"{ADDRESS}/{name}", SHA256[name]) for name in names])
        return {split: _pairs(*(contents[name] for name in names)) for split, names in pairs.items()}


def _pairs(source: bytes, target: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    for i, (one, other) in enumerate(zip(_lines(source), _lines(target), strict=True)):
        yield i, {"source": one, "target": other}


def _lines(content: bytes) -> list[str]:
    return [line.strip() for line in gzip.decompress(content).decode().removesuffix("\n").split("\n")]
