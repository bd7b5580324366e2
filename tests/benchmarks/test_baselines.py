"""The baselines, against plain loops and answers known beforehand."""

import dataclasses
import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks import pooling
from benchmarks.baselines import CS, baselines, running_text
from benchmarks.ngrams import NGrams
from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.preprocess.series import ForecastSplit
from data.preprocess.tokenize import encode
from data.preprocess.tokenizers import Words, mark
from data.preprocess.windows import RunningText, WindowSplit
from data.sources.files import Columns
from data.splits import ArraySplit, StreamSplit
from tests.training import commands

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread():  # boosting on tiny tables: its threads would wait for each other
    with threadpool_limits(1):
        yield


def results(roles=None, **splits):
    """Returns {name without what was chosen: value} of splits of arrays, and the names; `roles` are those of keys."""
    splits = {name: part if hasattr(part, "batch") else ArraySplit(part) for name, part in splits.items()}
    first = next(iter(splits.values())).batch(np.arange(1))
    roles = roles or {}
    keys = {key: Key(values.shape[1:], values.dtype.name, roles.get(key, "")) for key, values in first.items()}
    rows = baselines(splits, Info("made", {name: len(part) for name, part in splits.items()}, keys))
    return {(row.baseline.partition(" (")[0], row.metric): row.value for row in rows}, [row.baseline for row in rows]


def table(size, seed):
    """Returns rows whose first feature tells the class and, times three, the target; the others are noise."""
    features = np.random.default_rng(seed).normal(size=(size, 3)).astype(np.float32)
    label = (features[:, 0] > 0.3).astype(np.int32)
    return {"features": features, "label": label, "target": 3 * features[:, 0] + 7}


def without(part, key):
    return {name: values for name, values in part.items() if name != key}


def test_classes_of_a_table():
    train, validation, test = table(300, 0), table(100, 1), table(200, 2)
    values, names = results(train=train, validation=validation, test=test)
    assert train["label"].mean() < 0.5
    assert values["majority class", "accuracy"] == pytest.approx(1 - test["label"].mean())
    assert values["logistic regression", "accuracy"] > 0.97
    assert values["histogram gradient boosting", "accuracy"] > 0.97
    rows = train["features"], train["label"], validation["features"], validation["label"]
    right = [LogisticRegression(C=c).fit(*rows[:2]).score(*rows[2:]) for c in CS]
    assert right.index(max(right)) == 2  # so that what follows is not by chance
    assert "logistic regression (C=1)" in names
    validation["label"] = 1 - validation["label"]  # now the worst is best
    worst = CS[right.index(min(right))]
    assert f"logistic regression (C={worst:g})" in results(train=train, validation=validation, test=test)[1]
    assert "logistic regression (C=1)" in results(train=train, test=test)[1]


def test_numbers_of_a_table():
    train, validation, test = (without(table(300, seed), "label") for seed in range(3))
    values, names = results(train=train, validation=validation, test=test)
    error = test["target"] - train["target"].mean()
    assert values["mean", "rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert values["ridge", "rmse"] < 0.01
    assert values["histogram gradient boosting", "rmse"] < 1
    assert "ridge (alpha=0.01)" in names
    noise = train | {"target": np.random.default_rng(3).normal(size=300).astype(np.float32)}
    values, names = results(train=noise, validation=validation | {"target": noise["target"]}, test=test)
    assert "ridge (alpha=1e+06)" in names  # nothing to learn: only the strongest penalty does no harm


def test_an_unknown_input_has_the_guess_alone():
    part = {"inputs": np.zeros((4, 5, 2), np.float32), "target": np.array([0, 0, 4, 4], np.float32)}
    assert results(train=part, test=part)[0] == {("mean", "rmse"): 2.0}


def test_images():
    def drawn(size, seed):
        random = np.random.default_rng(seed)
        label = random.integers(0, 2, size).astype(np.int32)
        image = random.integers(0, 60, (size, 4, 4, 1)) + 150 * (label[:, None, None, None] == np.eye(4)[..., None])
        return {"image": image.astype(np.uint8), "label": label}

    values, _ = results(train=drawn(60, 0), test=drawn(40, 1))
    assert values["nearest neighbour of pixels", "accuracy"] == 1
    assert values["logistic regression on pixels", "accuracy"] == 1


def test_pooling_against_loops():
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 5, 6, 9, 3)).astype(np.float32)
    found = pooling.pooled(values, (8, 3, 4))
    rows, columns = [slice(0, 2), slice(2, 4), slice(4, 6)], [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 9)]
    assert found.shape == (2, 5, 3, 4, 3)
    for i, j in itertools.product(range(3), range(4)):
        np.testing.assert_allclose(
            found[:, :, i, j], values[:, :, rows[i], columns[j]].mean((2, 3)), rtol=1e-4, atol=1e-6
        )
    frames = random.normal(size=(2, 40, 3)).astype(np.float32)
    sounds = pooling.sounds(frames, np.array([16, 3])).reshape(2, 8, 2, 3)
    np.testing.assert_allclose(sounds[0, 5], [frames[0, 10:12].mean(0), frames[0, 10:12].std(0)], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sounds[1, 7, 0], frames[1, 2])  # shorter than the parts
    clips = random.integers(0, 256, (2, 3, 8, 8, 1), dtype=np.uint8)
    video = pooling.videos(clips)
    assert video.shape == (2, 3 * 16 + 2 * 16)
    change = np.abs(clips[1, 2, 6:, 6:].astype(float) - clips[1, 1, 6:, 6:]).mean()
    assert video[1, -1] == pytest.approx(change, rel=1e-5)


@pytest.mark.parametrize(
    ("key", "role", "name"),
    [
        ("frames", "frames", "bands in parts of the sound"),
        ("video", "video", "pooled frames and their changes"),
        ("volume", "volume", "pooled voxels"),
    ],
)
def test_sounds_videos_and_volumes(key, role, name):
    """The class is where the first half of the first axis is louder or brighter than the second one."""

    def drawn(size, seed):
        random = np.random.default_rng(seed)
        label = random.integers(0, 2, size).astype(np.int32)
        values = random.normal(size=(size, 8, 6) if key == "frames" else (size, 8, 6, 6, 1)).astype(np.float32)
        values[label == 1, :4] += 2
        values[label == 0, 4:] += 2
        return {key: values, "label": label}

    values, names = results({key: role}, train=drawn(120, 0), validation=drawn(60, 1), test=drawn(60, 2))
    assert values[f"logistic regression on {name}", "accuracy"] == 1
    assert values[f"random forest on {name}", "accuracy"] > 0.9
    assert len(names) == 3


def test_tokens_count_up_to_their_length_and_in_pairs():
    def sequences(size, seed):
        random = np.random.default_rng(seed)
        text, label = random.integers(3, 5, (size, 12)).astype(np.int32), random.integers(0, 2, size).astype(np.int32)
        lengths = random.integers(4, 9, size).astype(np.int32)
        text[:, 1:3] = np.where(label[:, None] == 1, [7, 8], [8, 7])  # only their order tells the class
        text[np.arange(12) >= lengths[:, None]] = 9
        text[:, -1] = 10 + random.integers(0, 2, size)  # no text
        return {"text": text, "text_lengths": lengths, "label": label}

    train, test = sequences(200, 0), sequences(50, 1)
    values, _ = results(train=train, test=test)
    assert values["TF-IDF of text, logistic regression", "accuracy"] == 1
    train["text"][:, -1] = 10 + train["label"]  # would be learnt, and be wrong in the test
    test["text"][:, -1] = 11 - test["label"]
    train["text"][:, 1:3] = test["text"][:, 1:3] = 7
    assert results(train=train, test=test)[0]["TF-IDF of text, logistic regression", "accuracy"] < 0.8


def kneser_ney(train, order, vocabulary):
    """Returns p(token, context) of Chen and Goodman 1999, eq. 26, by recursion over dictionaries."""

    def grams(length):
        return [tuple(train[i : i + length]) for i in range(len(train) - length + 1)]

    counts = {order: Counter(grams(order))}
    for length in range(1, order):
        counts[length] = Counter(gram[1:] for gram in set(grams(length + 1)))
    discounts, followers = {}, defaultdict(dict)
    for length, counted in counts.items():
        n = Counter(counted.values())
        share = n[1] / max(n[1] + 2 * n[2], 1)
        exact = (i - (i + 1) * share * n[i + 1] / max(n[i], 1) for i in (1, 2, 3))
        discounts[length] = [min(max(value, 0.1), i) for i, value in enumerate(exact, 1)]
        for gram, count in counted.items():
            followers[gram[:-1]][gram[-1]] = count

    def p(token, context):
        shorter = p(token, context[1:]) if context else 1 / vocabulary
        if not followers[context]:
            return shorter
        taken = {other: discounts[len(context) + 1][min(c, 3) - 1] for other, c in followers[context].items()}
        kept = followers[context].get(token, 0) - taken.get(token, 0)
        return (kept + sum(taken.values()) * shorter) / sum(followers[context].values())

    return p


def test_unigrams_by_hand():
    # counts 2 and 1: n1 = n2 = 1, share 1/3, discounts 1 - 2/3 = 1/3 and 2 - 0 = 2; 7/3 of 3 go to the uniform 1/3
    p = NGrams(np.array([0, 0, 1]), 1, 3).probabilities(np.array([0, 1, 2]), 1)
    np.testing.assert_allclose(p, [7 / 27, 2 / 9 + 7 / 27, 7 / 27])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ngrams_are_as_the_recursion_says(order):
    random = np.random.default_rng(order)
    train, test = random.integers(0, 4, 60) ** 2, random.integers(0, 11, 40)
    p = kneser_ney(train.tolist(), order, 11)
    context = [tuple(test[max(0, i - order + 1) : i].tolist()) for i in range(40)]
    expected = [p(token, before) for token, before in zip(test.tolist(), context, strict=True)]
    np.testing.assert_allclose(NGrams(train, 4, 11).probabilities(test, order), expected)


@pytest.mark.parametrize("context", [(), (0,), (4,), (6,), (0, 1, 4), (9, 1, 0, 0, 1, 4), (4, 9, 9, 9, 9, 9)])
@pytest.mark.parametrize("order", [1, 2, 5, 6])
def test_probabilities_are_above_0_and_sum_to_1(context, order):
    train = np.random.default_rng(0).integers(0, 4, 300) ** 2
    model = NGrams(train, 6, 11)
    p = np.array([model.probabilities(np.array([*context, token]), order)[-1] for token in range(11)])
    assert (p > 0).all()
    assert p.sum() == pytest.approx(1)


def test_a_text_shorter_than_the_order():
    model = NGrams(np.array([1, 0]), 5, 3)
    assert model.order == 2
    np.testing.assert_allclose([model.probabilities(np.array([1, i]), 2)[1] for i in range(3)], [1 / 3] * 3)


def test_running_text():
    texts = {
        split: np.random.default_rng(i).permuted(np.tile(np.arange(4, 8), (100, 1)), axis=1).ravel().astype(np.int32)
        for i, split in enumerate(("train", "validation", "test"))
    }
    windows = {split: WindowSplit(RunningText(text[None], ()), 7) for split, text in texts.items()}
    every = WindowSplit(RunningText(texts["train"].reshape(-1, 50), (9, 9)), 7, every=True)  # overlapping windows
    with_separators = np.insert(texts["train"], np.repeat(np.arange(50, 400, 50), 2), 9)
    assert running_text(every).tolist() == with_separators.tolist()
    for split, part in windows.items():
        assert running_text(part).tolist() == texts[split].tolist()
    values, names = results(**windows)
    p = NGrams(texts["train"].astype(np.int64), 8, 8).probabilities(texts["test"].astype(np.int64), 1)
    assert values["unigrams", "bits_per_token"] == pytest.approx(-np.log2(p[1:]).mean())
    best = min(
        range(2, 9), key=lambda order: bits(kneser_ney(texts["train"].tolist(), order, 8), texts["validation"], order)
    )
    assert names[1] == f"n-grams, modified Kneser-Ney (order={best})"
    expected = bits(kneser_ney(texts["train"].tolist(), best, 8), texts["test"], best)
    assert values["n-grams, modified Kneser-Ney", "bits_per_token"] == pytest.approx(expected)


def bits(p, text, order):
    text = text.tolist()
    nats = [math.log(p(text[i], tuple(text[max(0, i - order + 1) : i]))) for i in range(1, len(text))]
    return -sum(nats) / len(nats) / math.log(2)


def test_forecasts():
    steps = np.arange(700)
    season = np.random.default_rng(0).normal(size=(24, 2))[steps % 24]
    ramp = np.stack([0 * steps, steps / 100], axis=1)
    series = {"train": (season + ramp)[:400], "validation": (season + ramp)[400:500], "test": (season + ramp)[500:]}
    splits = {name: ForecastSplit(part.astype(np.float32), 26, 30) for name, part in series.items()}
    values, _ = results(**splits)
    batch = splits["test"].batch(np.arange(len(splits["test"])))
    past, future = batch["past"].astype(np.float64), batch["future"]
    for name, forecast in {"persistence": past[:, -1:], "mean of the past": past.mean(axis=1)[:, None]}.items():
        assert values[name, "mse"] == pytest.approx(np.square(forecast - future).mean())
        assert values[name, "mae"] == pytest.approx(np.abs(forecast - future).mean())
    # the second channel has risen by 0.24 after 24 steps and by 0.48 after the last 6 of the 30
    assert values["seasonal, 24 steps back", "mae"] == pytest.approx((0.24 * 24 + 0.48 * 6) / 30 / 2, rel=1e-3)
    assert values["ridge, per channel", "mae"] < 0.01
    short = {name: ForecastSplit(part.series, 23, 2) for name, part in splits.items()}
    assert not any("seasonal" in name for name in results(**short)[1])


def test_music():
    random = np.random.default_rng(0)
    lengths = {"train": (9, 4, 7), "test": (5, 8)}
    splits = {}
    for name, sizes in lengths.items():
        mask = (np.arange(max(sizes)) < np.array(sizes)[:, None]).astype(np.float32)
        notes = random.integers(0, 2, (*mask.shape, 3)).astype(np.uint8)  # padding too: it must not count
        splits[name] = {"notes": notes, "notes_mask": mask}
    frequency, given = np.array([[1, 2]] * 3), np.full((3, 2, 2), [1, 2])  # key (, last value): sounding, all

    def steps(name):
        for piece, size in zip(splits[name]["notes"].tolist(), lengths[name], strict=True):
            yield from itertools.pairwise(piece[:size])

    for before, now in steps("train"):
        for key in range(3):
            frequency[key] += (now[key], 1)
            given[key, before[key]] += (now[key], 1)

    def nll(tables):
        nats = [
            -math.log(sounds / total if now[key] else 1 - sounds / total)
            for before, now in steps("test")
            for key in range(3)
            for sounds, total in [tables(key, before[key])]
        ]
        return sum(nats) / (sum(lengths["test"]) - 2)

    values, _ = results(**splits)
    assert values["keys independent", "nll"] == pytest.approx(nll(lambda key, _: frequency[key]))
    assert values["given the key's last value", "nll"] == pytest.approx(nll(lambda key, last: given[key, last]))


def test_what_no_baseline_fits():
    part = {"source": np.zeros((2, 3), np.int32), "target": np.zeros((2, 3), np.int32)}
    with pytest.raises(UserError, match="no baseline fits made, whose examples have source, target"):
        results(train=part, test=part)
    with pytest.raises(UserError, match=r"data.splits.test is empty"):
        results(train=table(10, 0))
    streamed = StreamSplit(Columns({"label": (np.arange(2), None)}))
    with pytest.raises(UserError, match="'train' is streamed"):
        results(train=streamed, test=streamed)


def test_the_command(tmp_path):
    command = ("benchmarks.baselines", "--config=configs/tabular.py:iris", f"--data_dir={tmp_path}")
    code, out, err = commands.run(*command, script="-m", OMP_NUM_THREADS="1")
    assert code == 0, err
    head, columns, *rows = out.splitlines()
    assert head == "iris: 30 test, 102 train, 18 validation"
    assert columns.split() == ["baseline", "metric", "test"]
    assert [row.partition(" (")[0].split("  ")[0] for row in rows] == [
        "majority class",
        "logistic regression",
        "histogram gradient boosting",
    ]
    assert 0.9 < float(rows[1].split()[-1]) <= 1
    code, out, err = commands.run(*command, "--config.data.splits.test=", script="-m", OMP_NUM_THREADS="1")
    assert (code, out) == (2, "")
    assert err == "error: data.splits.test is empty: baselines are reported on it\n"


def test_commonest_tag_of_a_word():
    fitted = Words()(["a b c d"])
    mark(fitted)
    (ids,) = encode(fitted, ["a b c d"])  # <bos> and <eos> around

    def part(words, tags):
        tokens = np.concatenate([ids[:1], ids[words], ids[-1:]])
        tags, mask = np.array([-1, *tags, -1]), np.array([0, *np.ones(len(tags)), 0], np.float32)
        lengths = {f"{key}_lengths": np.array([len(tokens)]) for key in ("words", "tags")}
        return ArraySplit({"words": tokens[None], "tags": tags[None], "tags_mask": mask[None], **lengths})

    splits = {"train": part([1, 1, 1, 2, 2, 3], [0, 0, 1, 1, 1, 1]), "test": part([1, 2, 3, 4], [0, 1, 0, 1])}
    keys = {key: Key(values.shape[1:], values.dtype.name) for key, values in splits["train"].arrays.items()}
    keys["tags"] = dataclasses.replace(keys["tags"], role="tags", classes=("x", "y"))
    keys["words"] = dataclasses.replace(keys["words"], role="tokens", vocabulary=Vocabulary.of(fitted))
    info = Info("made", {"train": 1, "test": 1}, keys)
    values = {row.baseline: row.value for row in baselines(splits, info)}
    assert values == {"commonest class": 0.5, "commonest class of the word": 0.75}


def test_commonest_class_of_a_pixel():
    """Class 9 counts nowhere. Of the test's known pixels 0 0 1 1 the class 0 alone has the IoUs 2/4 and 0; by place,
    0 0 and 1 1 are all right."""
    train = {"map": np.array([[[0, 0], [1, 9]], [[0, 9], [1, 0]]], np.uint8)}
    test = {"map": np.array([[[0, 9], [1, 9]], [[9, 0], [1, 9]]], np.uint8)}
    splits = {"train": ArraySplit(train), "test": ArraySplit(test)}
    info = Info("made", {"train": 2, "test": 2}, {"map": Key((2, 2), "uint8", "label_map")})
    rows = {(row.baseline, row.metric): row.value for row in baselines(splits, info, ignore=9)}
    assert rows["commonest class", "accuracy"] == 0.5 and rows["commonest class", "mean_iou"] == 0.25
    assert rows["commonest class at the place", "accuracy"] == rows["commonest class at the place", "mean_iou"] == 1


def test_the_sentence_closest_to_the_question():
    """The question shares "dogs" with the second sentence, of which the second example has no token: F1 1/2 and 0."""
    text = "Cats sleep. Big dogs bark. Birds sing."
    words = np.array([(0, 4), (5, 11), (12, 15), (16, 20), (21, 26), (27, 32), (33, 38)])
    offsets = np.stack([np.concatenate([[(0, 0)], words]), np.concatenate([[(0, 0)] * 4, words[:2], words[5:]])])
    strings = {"context": [text] * 2, "question": ["What do dogs do?"] * 2, "answer": ["bark", "bark"]}
    arrays = {"offsets": offsets, "segments": np.ones((2, 8)), "start": np.full(2, 5), "end": np.full(2, 5)}
    split = ArraySplit(arrays, strings=strings)
    keys = {key: Key(values.shape[1:], values.dtype.name) for key, values in arrays.items()}
    rows = baselines({"train": split, "test": split}, Info("made", {"train": 2, "test": 2}, keys))
    assert {row.metric: row.value for row in rows} == {"exact_match": 0, "f1": pytest.approx(0.25)}
