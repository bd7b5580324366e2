"""The sets of raw files, from made-up files in the folder for manual downloads. Nothing is ever downloaded here."""

import dataclasses
import gzip
import hashlib
import io
import json
import sys
import tarfile
import zlib

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image
from scipy.io import wavfile

from core.errors import UserError
from data.builders import casing, music, news, nlvr, penguins, series, speech, streets, translation
from data.preprocess.series import ForecastSplit
from data.sources.tfds import Official
from tests.data.rows import listed

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(self, urls):
        raise ConnectionError("no network\nin tests")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", refuse)


@pytest.fixture
def place(tmp_path):
    """Returns a writer: (set, file -> content) into the folder for manual downloads."""

    def write(name, files):
        folder = tmp_path / "downloads" / "manual" / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)

    return write


@pytest.fixture
def load(tmp_path):
    """Returns a loader: name -> (examples of each split, TFDS's description)."""

    def load(name):
        source = Official(name, str(tmp_path))
        assert "tensorflow" not in sys.modules
        return {split: listed(source.examples(split)) for split in source.splits}, source.builder.info

    return load


def digest(content):
    return hashlib.sha256(content).hexdigest()


def zipped(lines):
    return gzip.compress("".join(f"{line}\n" for line in lines).encode())


@pytest.fixture
def sentences(place, monkeypatch):
    """Places a small Multi30k; line i of part p says "p language i"."""
    files = {
        f"{part}.{language}.gz": zipped(f"{part} {language} é\u2028{i}" for i in range(3))
        for part in translation.SPLITS.values()
        for language in translation.LANGUAGES
    }
    assert files.keys() == translation.SHA256.keys()
    place("multi30k", files)
    monkeypatch.setattr(translation, "SHA256", {name: digest(content) for name, content in files.items()})


@pytest.mark.parametrize("name", ["de-en", "en-de", "fr-en", "de-fr"])
def test_multi30k(sentences, load, name):
    splits, _ = load(f"multi30k/{name}")
    source, target = name.split("-")
    assert list(splits) == list(translation.SPLITS)
    for split, examples in splits.items():
        part = translation.SPLITS[split]
        pairs = {(example["source"], example["target"]) for example in examples}
        assert pairs == {(f"{part} {source} é\u2028{i}", f"{part} {target} é\u2028{i}") for i in range(3)}


def test_a_file_that_is_not_there_is_named_with_its_folder(load, tmp_path):
    with pytest.raises(UserError) as caught:
        load("ag_news_topics")
    line = str(caught.value)
    assert "\n" not in line and "test.csv could not be downloaded (ConnectionError)" in line
    assert str(tmp_path / "downloads" / "manual" / "ag_news_topics") in line and news.TEST.url in line


def test_a_file_that_is_another_is_named(sentences, load, monkeypatch, tmp_path):
    (tmp_path / "downloads" / "manual" / "multi30k" / "val.en.gz").write_bytes(zipped(["something else"]))
    with pytest.raises(
        UserError, match=r"manual/multi30k/val.en.gz differs from https://.*val.en.gz: its sha256 is"
    ) as caught:
        load("multi30k/de-en")
    assert "\n" not in str(caught.value)


def test_what_is_not_on_the_disk_is_downloaded_and_checked(load, monkeypatch, tmp_path):
    content = b'"1","a","b"\n' * 4
    (tmp_path / "cached").write_bytes(content)
    asked = []

    def download(self, urls):
        asked.extend(urls.values())
        return dict.fromkeys(urls, tmp_path / "cached")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    monkeypatch.setattr(news, "SIZES", {"train": 2, "validation": 1, "test": 1})
    with pytest.raises(UserError, match=r"cached differs from https://.*its sha256"):
        load("ag_news_topics")
    monkeypatch.setattr(news, "TEST", dataclasses.replace(news.TEST, sha256=digest(content)))
    splits, _ = load("ag_news_topics")
    assert len(splits["train"]) == 2 and set(asked) == {news.TEST.url}


def test_addresses_do_not_change():
    files = [news.TEST, penguins.FILE, speech.ARCHIVE, *nlvr.FILES.values()]
    for address in [translation.ADDRESS, series.ADDRESS, music.ADDRESS, *(file.url for file in files)]:
        assert any(len(part) == 40 or part.startswith("v1.0.9") for part in address.split("/"))  # a commit or a tag
    archives = (nlvr.PICTURES, streets.PICTURES)
    assert all(len(archive.commit) == 40 and int(archive.commit, 16) for archive in archives)
    for value in [*translation.SHA256.values(), *series.SHA256.values(), *(of.sha256 for of in archives)]:
        assert len(value) == 64 and int(value, 16)


def test_news_topics(place, load, monkeypatch):
    rows = [f'"{1 + i % 4}","Title {i}","He said ""{i}""\\and left, #39;"\n' for i in range(7_600)]
    content = "".join(rows).encode()
    place("ag_news_topics", {"test.csv": content})
    monkeypatch.setattr(news, "TEST", dataclasses.replace(news.TEST, sha256=digest(content)))
    splits, info = load("ag_news_topics")
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": 5_600,
        "validation": 400,
        "test": 1_600,
    }
    texts = {split: {example["text"] for example in examples} for split, examples in splits.items()}
    everything = set.union(*texts.values())
    assert everything == {f'Title {i} He said "{i}" and left, #39;' for i in range(7_600)}  # each in one split
    assert info.features["label"].names == ["World", "Sports", "Business", "Sci/Tech"]
    for example in splits["test"]:
        assert example["label"] == info.features["label"].names[int(example["text"].split()[1]) % 4]
    assert abs(np.mean([int(text.split()[1]) for text in texts["test"]]) - 3_800) < 200  # shuffled


def test_penguins(place, load, monkeypatch):
    names, rows = ("Adelie", "Chinstrap", "Gentoo"), []
    for i in range(30):
        measured = "NA,NA,NA,NA,NA" if i == 4 else f"{40 + i}.5,18,{180 + i},{3000 + i},{'fe' * (i % 2)}male"
        rows.append(f"{names[i % 3]},Dream,{measured},{2007 + i % 3}\n")
    header = "species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year\n"
    content = "".join([header, *rows]).encode()
    place("palmer_penguins", {"penguins.csv": content})
    monkeypatch.setattr(penguins, "FILE", dataclasses.replace(penguins.FILE, sha256=digest(content)))
    splits, _ = load("palmer_penguins")
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 24, "test": 6}
    assert sorted(example["species"] for example in splits["test"]) == sorted(2 * names)  # stratified
    known = {}
    for example in splits["train"] + splits["test"]:
        assert example["island"] == "Dream"
        known[example["body_mass_g"]] = example
    (missing,) = (example for mass, example in known.items() if np.isnan(mass))
    assert missing["sex"] is None and missing["species"] == "Chinstrap" and missing["year"] == 2008
    assert known[3003]["sex"] == "female" and known[3003]["bill_length_mm"] == 43.5 and len(known) == 30


def test_series(place, load, monkeypatch):
    table = np.arange(15_000)[:, None] + np.arange(7) / 10
    lines = [f"2016-07-01 00:00:00,{','.join(map(str, row))}" for row in table]
    content = "\n".join(["date," + ",".join(series.CHANNELS), *lines]).encode()
    place("ett", {"ETTh2.csv.gz": gzip.compress(content)})
    monkeypatch.setattr(series, "SHA256", {"ETTh2": digest(content)})
    for name, history in (("ett/h2", 96), ("ett/h2_336", 336)):
        splits, info = load(name)
        assert info.metadata["channels"] == list(series.CHANNELS)
        for split, start, stop in (("train", 0, 8_640), ("validation", 8_640, 11_520), ("test", 11_520, 14_400)):
            (example,) = splits[split]
            expected = table[max(0, start - history) : stop]
            np.testing.assert_array_equal(example["series"], expected.astype(np.float32))
        windows = ForecastSplit(splits["test"][0]["series"], window=history, horizon=720)
        assert len(windows) == 2_881 - 720
        assert windows.batch(np.array([0]))["future"][0, 0, 0] == 11_520


@pytest.mark.parametrize(("name", "file"), [("jsb", "JSB_Chorales.mat"), ("nottingham", "Nottingham.mat")])
def test_music(place, load, monkeypatch, name, file):
    random = np.random.default_rng(0)
    pieces = {
        split: [random.integers(0, 2, (random.integers(3, 30), 88), dtype=np.uint8) for _ in range(size)]
        for split, size in (("train", 5), ("validation", 2), ("test", 3))
    }
    arrays = {}
    for split, rolls in pieces.items():
        arrays[music.SPLITS[split]] = np.empty((1, len(rolls)), dtype=object)
        arrays[music.SPLITS[split]][0, :] = rolls
    stored = io.BytesIO()
    scipy.io.savemat(stored, arrays)
    place("poly_music", {file: stored.getvalue()})
    config = music.PolyMusic.builder_configs[name]
    monkeypatch.setattr(config, "sha256", digest(stored.getvalue()))
    splits, _ = load(f"poly_music/{name}")
    for split, rolls in pieces.items():
        read = [example["notes"] for example in splits[split]]
        assert {notes.dtype for notes in read} == {np.dtype(np.uint8)}
        assert sorted(notes.tobytes() for notes in read) == sorted(notes.tobytes() for notes in rolls)


@pytest.fixture
def recordings(place, monkeypatch):
    """Places an archive of short recordings; their value tells digit, speaker and number."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for digit in range(10):
            for s, speaker in enumerate(speech.SPEAKERS):
                for number in range(50):
                    wav = io.BytesIO()
                    level = 1_000 + 3_000 * digit + 500 * s + 9 * number
                    size = 9_000 if number == 7 else 50  # number 7 is too long
                    wavfile.write(wav, 8_000, np.full(size, level, np.int16))
                    member = tarfile.TarInfo(
                        f"free-spoken-digit-dataset-1.0.9/recordings/{digit}_{speaker}_{number}.wav"
                    )
                    member.size = len(wav.getvalue())
                    tar.addfile(member, io.BytesIO(wav.getvalue()))
    content = archive.getvalue()
    for name in ("joined_digits", "spoken_digits"):
        place(name, {speech.ARCHIVE.name: content})
    monkeypatch.setattr(speech, "ARCHIVE", dataclasses.replace(speech.ARCHIVE, sha256=digest(content)))
    monkeypatch.setattr(speech, "SIZES", {"train": 120, "validation": 30, "test": 30})
    monkeypatch.setattr(speech, "NOISE", 0.0)


def takes(audio):
    """Returns (digit, speaker, number) of each recording in a sequence, and the lengths of the silences around."""
    loud = audio != 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(int)))
    starts, stops = edges[::2], edges[1::2]
    assert set(stops - starts) == {50}
    gaps = np.concatenate([starts, [len(audio)]]) - np.concatenate([[0], stops])
    levels = audio[starts].astype(int) - 1_000
    return list(zip(levels // 3_000, levels % 3_000 // 500, levels % 500 // 9, strict=True)), gaps


@pytest.mark.parametrize(("name", "tested"), [("random", {0, 1, 2, 3, 4}), ("by_speaker", {4})])
def test_joined_digits(recordings, load, name, tested):
    splits, info = load(f"joined_digits/{name}")
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 120, "validation": 30, "test": 30}
    assert info.metadata["rate"] == 8_000
    spoken, speakers, numbers = ({split: set() for split in splits} for _ in range(3))
    for split, examples in splits.items():
        for example in examples:
            assert example["audio"].dtype == np.int16
            parts, gaps = takes(example["audio"])
            digits = [digit for digit, _, _ in parts]
            assert example["digits"].tolist() == digits and 3 <= len(digits) <= 5
            assert example["text"] == " ".join(speech.WORDS[digit] for digit in digits)
            assert {speaker for _, speaker, _ in parts} == {example["speaker"]}
            assert gaps.min() >= 400 and gaps.max() < 2_000
            spoken[split].add(tuple(digits))
            speakers[split].add(int(example["speaker"]))
            numbers[split] |= {number for _, _, number in parts}
    assert not spoken["train"] & (spoken["validation"] | spoken["test"]) and not spoken["validation"] & spoken["test"]
    assert speakers["test"] == tested
    assert speakers["train"] == (set(range(5)) if name == "random" else set(range(4)))
    assert numbers["train"] <= set(range(10, 50)) and numbers["validation"] <= set(range(5, 10)) - {7}
    assert numbers["test"] <= set(range(5)) if name == "random" else max(numbers["test"]) > 5


@pytest.mark.parametrize(("name", "tested"), [("random", range(5)), ("by_speaker", [4])])
def test_spoken_digits(recordings, load, name, tested):
    splits, info = load(f"spoken_digits/{name}")
    assert info.features["label"].names == list(speech.WORDS) and info.metadata["rate"] == 8_000
    others = [speaker for speaker in range(5) if name == "random" or speaker not in tested]
    numbers = range(50) if name == "by_speaker" else range(5)
    expected = {"train": (others, range(10, 50)), "validation": (others, range(5, 10)), "test": (tested, numbers)}
    for split, (speakers, numbers) in expected.items():
        found = []
        for example in splits[split]:
            (level,) = set(example["audio"].tolist())
            digit, rest = divmod(level - 1_000, 3_000)
            assert digit == example["label"] and rest // 500 == example["speaker"]
            found.append((digit, rest // 500, rest % 500 // 9))
        everything = {(digit, speaker, n) for digit in range(10) for speaker in speakers for n in numbers if n != 7}
        assert len(found) == len(everything) and set(found) == everything


def test_the_split_of_a_sequence_is_a_fixed_rule():
    assert speech.split_of([7, 2, 5]) == {0: "test", 1: "validation"}.get(zlib.crc32(b"725") % 10, "train")
    names = [speech.split_of(np.array(divmod(i, 100))) for i in range(1_000)]
    shares = [names.count(split) / 1_000 for split in ("train", "validation", "test")]
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.03)


@pytest.fixture
def pictures(place, monkeypatch):
    """Places a small NLVR whose pictures are of one grey each, and returns the greys by sentence."""
    files, greys, hashes = {}, {}, {}
    images = io.BytesIO()
    with tarfile.open(fileobj=images, mode="w") as tar:
        for s, split in enumerate(("dev", "test")):
            rows = [
                {"sentence": f"{split} {i}", "label": "true" if i % 3 else "false", "identifier": f"{i}-0"}
                for i in range(6)
            ]
            files[f"{split}.json"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
            for i in range(6):
                for order in range(2):
                    png = io.BytesIO()
                    grey = 20 * i + 5 * s + 100 * order
                    Image.new("RGBA", (400, 100), (grey, grey, grey, 255)).save(png, format="png")
                    name = f"{split}-{i}-0-{order}.png"
                    member = tarfile.TarInfo(f"{split}/images/{i}/{name}")
                    member.size = len(png.getvalue())
                    tar.addfile(member, io.BytesIO(png.getvalue()))
                    if i % 3 and not order:
                        greys[f"{split} {i}"] = grey
                        hashes[name] = hashlib.sha256(png.getvalue()).digest()
    place("nlvr", {f"{name}.gz": gzip.compress(content) for name, content in files.items()})
    known = {split: dataclasses.replace(file, sha256=digest(files[file.name])) for split, file in nlvr.FILES.items()}
    monkeypatch.setattr(nlvr, "FILES", known)
    of_all = digest(b"".join(hashes[name] for name in sorted(hashes)))
    monkeypatch.setattr(nlvr, "PICTURES", dataclasses.replace(nlvr.PICTURES, count=8, sha256=of_all))
    return images.getvalue(), greys


def test_nlvr(pictures, load, tmp_path):
    images, greys = pictures
    with pytest.raises(UserError, match=r"nlvr needs .*manual/nlvr/nlvr_images.tar"):
        load("nlvr")
    path = tmp_path / "downloads" / "manual" / "nlvr" / nlvr.PICTURES.name
    with tarfile.open(fileobj=io.BytesIO(images)) as whole, tarfile.open(path, mode="w") as part:
        for member in whole:
            if not member.name.endswith("dev-1-0-0.png"):
                part.addfile(member, whole.extractfile(member))
    with pytest.raises(UserError, match=r"lacks the files of nlvr at .*: 7 of 8 found"):
        load("nlvr")
    path.write_bytes(images)
    splits, _ = load("nlvr")
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 4, "test": 4}
    for split, prefix in (("train", "dev"), ("test", "test")):
        for example in splits[split]:
            text = example["text"]
            assert text.startswith(prefix)
            assert example["image"].shape == (50, 200, 3) and set(example["image"].ravel()) == {greys[text]}


def test_camvid_clips(place, load, monkeypatch):
    """Each frame is of one grey. A gap of one frame ends a run; drives are apart; label maps are not read."""
    numbers = {"0016E5": range(0, 180, 30), "0001TP": [*range(0, 120, 30), *range(150, 240, 30)]}
    numbers |= {"0006R0": range(900, 1_020, 30), "Seq05VD": range(0, 150, 30)}
    frames = [(drive, number) for drive, several in numbers.items() for number in several]
    tar_file, hashes, greys = io.BytesIO(), {}, {}
    with tarfile.open(fileobj=tar_file, mode="w") as tar:
        for grey, (drive, number) in enumerate(frames):
            for folder, level in (("train" if grey % 3 else "test", grey), ("trainannot", 255)):
                png = io.BytesIO()
                Image.new("RGB", (480, 360), (level,) * 3).save(png, format="png")
                name = f"{drive}_{'f' if drive == '0006R0' else ''}{number:05}.png"
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size = len(png.getvalue())
                tar.addfile(member, io.BytesIO(png.getvalue()))
                if level == grey:
                    hashes[name], greys[drive, number] = hashlib.sha256(png.getvalue()).digest(), grey
    of_all = digest(b"".join(hashes[name] for name in sorted(hashes)))
    monkeypatch.setattr(streets, "PICTURES", dataclasses.replace(streets.PICTURES, count=len(frames), sha256=of_all))
    place("camvid_clips", {"camvid.tar": tar_file.getvalue()})
    splits, info = load("camvid_clips")
    assert info.features["label"].names == ["forwards", "backwards"]
    starts = {"train": [("0016E5", 0), ("0016E5", 30), ("0016E5", 60), ("0001TP", 0)], "validation": [("0006R0", 900)]}
    starts["test"] = [("Seq05VD", 0), ("Seq05VD", 30)]
    for split, expected in starts.items():
        found = set()
        for example in splits[split]:
            video = example["video"]
            assert video.shape == (4, 60, 80, 3) and (video == video[:, :1, :1, :1]).all()
            found.add((*video[:, 0, 0, 0].tolist(), int(example["label"])))
        runs = [[greys[drive, number + 30 * i] for i in range(4)] for drive, number in expected]
        assert found == {(*run, 0) for run in runs} | {(*run[::-1], 1) for run in runs}
        assert len(splits[split]) == len(found)


def test_truecasing(place, load, monkeypatch):
    articles = " \n = Heading = \n \n The USA and McGee 's <unk> 19 . iPod ? \n\n" + " Yes ! \n" * 18
    files = {file.name: articles.encode() for file in (casing.TRAIN, casing.TEST)}
    place("truecasing", files)
    for name in ("TRAIN", "TEST"):
        file = getattr(casing, name)
        monkeypatch.setattr(casing, name, dataclasses.replace(file, sha256=digest(files[file.name])))
    splits, info = load("truecasing")
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 18, "validation": 2, "test": 20}
    (first,) = [example for example in splits["test"] if len(example["words"]) == 8]
    words = list(first["words"])
    assert words == ["the", "usa", "and", "mcgee", "'s", "<unk>", "19", "."]
    names = [*info.features["case"].feature.names, "none"]
    cases = [names[case] for case in first["case"]]
    assert cases == ["capital", "upper", "lower", "mixed", "lower", "none", "none", "none"]
