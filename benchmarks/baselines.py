"""Classical baselines on exactly the rows that a recipe is trained and tested on.

    python -m benchmarks.baselines --config=configs/tabular.py:wine_quality [--data_dir=DIR]

The kind of data determines the baselines. All are fitted on the training split; values in brackets after a name were
chosen on the validation split, or are the middle of their grid if the recipe has none.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import flags
from jaxtyping import Bool, Float, Int
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import data
from benchmarks import pooling
from benchmarks.answers import closest_sentences
from benchmarks.ngrams import NGrams
from core import cli
from core.errors import UserError
from core.info import Info
from core.vocabulary import Vocabulary
from data.preprocess.windows import WindowSplit
from data.splits import ArraySplit, Batch, Split
from tasks.answering import SpanAnswer
from tasks.segmentation import Segmentation
from training.config import validate
from training.overrides import assignments, override, recipe

# b: examples, n: tokens, t: time steps, k: keys of a piano; p: steps of the past, h: of the future, s: of either,
# c: channels

CS = (0.01, 0.1, 1.0, 10.0, 100.0)  # inverse strength of the L2 penalty of logistic regression
ALPHAS = (0.01, 1.0, 100.0, 1e4, 1e6)  # strength of the L2 penalty of ridge regression
LEAVES = (7, 15, 31, 63)  # of each tree in gradient boosting
TREES = 300  # of a forest; boosting would take minutes where there are many numbers and classes
ORDERS = (2, 3, 4, 5, 6, 7, 8)  # of n-gram models
SEASON = 24  # steps per day, of hourly series
NUMBERS = 10**8  # most numbers, in windows of a series, to which a regression is fitted

Splits = Mapping[str, Split]
Arrays = Mapping[str, Any]  # split -> its rows: an array, sparse for texts
V, M = TypeVar("V"), TypeVar("M")


class Row(NamedTuple):
    baseline: str
    metric: str
    value: float  # on the test split


def baselines(splits: Splits, info: Info, ignore: int = 255) -> list[Row]:
    """Returns the results of all baselines that fit a data set from `data.load`.

    Args:
        ignore: class of label maps that counts nowhere.

    Raises:
        UserError: no baseline fits, the test split is missing, or the examples are streamed.
    """
    if "test" not in splits:
        raise UserError("data.splits.test is empty: baselines are reported on it")
    kinds = {("past", "future"): _forecasts, ("notes", "notes_mask"): _music, ("tokens", "labels_mask"): _language}
    for keys, fit in kinds.items():
        if info.keys.keys() >= set(keys):
            return list(fit(splits, info))
    scalars = [key for key, record in info.keys.items() if record.shape == ()]
    if "label" in scalars:
        return list(_classes(splits, info))
    if "target" in scalars:
        return list(_numbers(splits, info))
    if info.keys.keys() >= {"segments", "offsets", "start", "end"}:
        return list(_answers(splits))
    roles = {record.role: key for key, record in info.keys.items()}
    if "tags" in roles:
        return list(_tags(splits, info))
    if "label_map" in roles:
        return list(_label_maps(splits, roles["label_map"], ignore))
    raise UserError(f"no baseline fits {info.name}, whose examples have {', '.join(info.keys)}")


def _arrays(splits: Splits) -> dict[str, Batch]:
    for name, split in splits.items():
        if not isinstance(split, ArraySplit):
            raise UserError(f"the split {name!r} is streamed: baselines hold it in memory, raise data.memory_gb")
    return {name: split.batch(np.arange(len(split))) for name, split in splits.items()}


def _chosen(fit: Callable[[V], M], grid: Sequence[V], score: Callable[[M], float] | None) -> tuple[V, M]:
    """Returns the value with the highest score (the first of equals) and its model; the middle one without a score."""
    if score is None:
        return grid[len(grid) // 2], fit(grid[len(grid) // 2])
    return max(((value, fit(value)) for value in grid), key=lambda pair: score(pair[1]))


# Classes and numbers


def _tuned(
    name: str, key: str, make: Callable[[V], Any], grid: Sequence[V], inputs: Arrays, answers: Arrays, metric: str
) -> Row:
    """Returns the result of the model `make(value)` whose value of `key` is best on the validation split."""

    def measure(model: Any, split: str) -> float:
        predicted = model.predict(inputs[split])
        if metric == "rmse":
            return float(root_mean_squared_error(answers[split], predicted))
        return float(np.mean(predicted == answers[split]))

    sign = -1 if metric == "rmse" else 1
    value, model = _chosen(
        lambda value: make(value).fit(inputs["train"], answers["train"]),
        grid,
        (lambda model: sign * measure(model, "validation")) if "validation" in inputs else None,
    )
    return Row(f"{name} ({key}={value:g})", metric, measure(model, "test"))


def _classes(splits: Splits, info: Info) -> Iterator[Row]:
    arrays = _arrays(splits)
    labels = {name: part["label"] for name, part in arrays.items()}

    def row(name: str, model: Any, inputs: Arrays) -> Row:
        return Row(name, "accuracy", model.fit(inputs["train"], labels["train"]).score(inputs["test"], labels["test"]))

    def logistic(name: str, inputs: Arrays) -> Row:
        return _tuned(name, "C", lambda c: LogisticRegression(C=c, max_iter=1000), CS, inputs, labels, "accuracy")

    yield row("majority class", DummyClassifier(strategy="most_frequent"), labels)
    if "features" in info.keys:
        features = {name: part["features"] for name, part in arrays.items()}
        yield logistic("logistic regression", features)
        boosting = functools.partial(_boosting, HistGradientBoostingClassifier)
        yield _tuned("histogram gradient boosting", "leaves", boosting, LEAVES, features, labels, "accuracy")
    if "image" in info.keys:
        scale = 255 if info.keys["image"].dtype == "uint8" else 1
        pixels = {name: part["image"].reshape(len(part["image"]), -1) / scale for name, part in arrays.items()}
        yield row("nearest neighbour of pixels", KNeighborsClassifier(n_neighbors=1), pixels)
        yield logistic("logistic regression on pixels", pixels)
    for name, inputs in _pooled(arrays, info):
        yield logistic(f"logistic regression on {name}", inputs)
        yield row(f"random forest on {name}", RandomForestClassifier(TREES, random_state=0), inputs)
    for key, record in info.keys.items():
        if f"{key}_lengths" in info.keys and len(record.shape) == 1 and np.issubdtype(record.dtype, np.integer):
            yield logistic(f"TF-IDF of {key}, logistic regression", _tf_idf(key, splits, info))


def _pooled(arrays: Mapping[str, Batch], info: Info) -> Iterator[tuple[str, Arrays]]:
    """Yields the names and the standardised values of summaries of sounds, videos and volumes of one size."""
    for key, record in info.keys.items():
        if record.role == "frames":
            every = {name: np.full(len(part[key]), part[key].shape[1]) for name, part in arrays.items()}
            lengths = {name: part.get(f"{key}_lengths", every[name]) for name, part in arrays.items()}
            summaries = {name: pooling.sounds(part[key], lengths[name]) for name, part in arrays.items()}
            yield "bands in parts of the sound", _standardised(summaries)
        elif record.role in ("video", "volume") and not record.ragged:
            summary = {"video": pooling.videos, "volume": pooling.volumes}[record.role]
            names = {"video": "pooled frames and their changes", "volume": "pooled voxels"}
            summaries = {name: summary(part[key]) for name, part in arrays.items()}
            yield names[record.role], _standardised(summaries)


def _standardised(inputs: Arrays) -> Arrays:
    scaler = StandardScaler().fit(inputs["train"])
    return {name: scaler.transform(part) for name, part in inputs.items()}


def _tf_idf(key: str, splits: Splits, info: Info) -> Arrays:
    """Returns weights of words and pairs of words; in a set of tokens without texts, every id is a word."""
    texts = {name: _texts(key, split, info) for name, split in splits.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    vectorizer.fit(texts["train"])
    return {name: vectorizer.transform(part) for name, part in texts.items()}


def _texts(key: str, split: ArraySplit, info: Info) -> Sequence[str]:
    if key in split.strings:
        return split.strings[key]
    vocabulary, arrays = info.keys[key].vocabulary or Vocabulary(size=0), split.arrays
    return [vocabulary.text(ids[:n]) for ids, n in zip(arrays[key], arrays[f"{key}_lengths"], strict=True)]


def _numbers(splits: Splits, info: Info) -> Iterator[Row]:
    arrays = _arrays(splits)
    targets = {name: part["target"].astype(np.float64) for name, part in arrays.items()}

    mean = np.full_like(targets["test"], targets["train"].mean())
    yield Row("mean", "rmse", float(root_mean_squared_error(targets["test"], mean)))
    if "features" in info.keys:
        features = {name: part["features"].astype(np.float64) for name, part in arrays.items()}
        yield _tuned("ridge", "alpha", Ridge, ALPHAS, features, targets, "rmse")
        boosting = functools.partial(_boosting, HistGradientBoostingRegressor)
        yield _tuned("histogram gradient boosting", "leaves", boosting, LEAVES, features, targets, "rmse")


def _boosting(kind: type, leaves: int) -> Any:
    return kind(max_leaf_nodes=leaves, random_state=0)


def _tags(splits: Splits, info: Info) -> Iterator[Row]:
    arrays = _arrays(splits)
    tokens, tags = (
        [key for key, record in info.keys.items() if record.role == role][-1] for role in ("tokens", "tags")
    )
    known = {name: part[f"{tags}_mask"] > 0 for name, part in arrays.items()}
    words, answers = ({name: part[key][known[name]] for name, part in arrays.items()} for key in (tokens, tags))
    counts = np.zeros((info.keys[tokens].vocabulary.size, info.keys[tags].num_classes), np.int64)
    np.add.at(counts, (words["train"], answers["train"]), 1)
    commonest = counts.sum(0).argmax()
    yield Row("commonest class", "accuracy", float(np.mean(answers["test"] == commonest)))
    of_word = np.where(counts.any(1), counts.argmax(1), commonest)
    yield Row("commonest class of the word", "accuracy", float(np.mean(answers["test"] == of_word[words["test"]])))


# Questions about texts


def _answers(splits: Splits) -> Iterator[Row]:
    spans = closest_sentences(splits["train"], splits["test"])
    for metric, value in SpanAnswer().summary(spans, splits["test"]).items():
        yield Row("sentence closest to the question", metric, value)


# Label maps


def _label_maps(splits: Splits, key: str, ignore: int) -> Iterator[Row]:
    maps = {name: part[key] for name, part in _arrays(splits).items()}
    classes = 1 + max(int(part[part != ignore].max()) for part in maps.values())
    counts = np.stack([np.sum(maps["train"] == k, 0) for k in range(classes)])  # [classes, *places]
    most = counts.sum(tuple(range(1, counts.ndim))).argmax()
    yield from _overlaps("commonest class", np.full_like(maps["test"], most), maps["test"], classes, ignore)
    at_place = np.where(counts.any(0), counts.argmax(0), most)
    at_places = np.broadcast_to(at_place, maps["test"].shape)
    yield from _overlaps("commonest class at the place", at_places, maps["test"], classes, ignore)


def _overlaps(name: str, predicted: np.ndarray, true: np.ndarray, classes: int, ignore: int) -> Iterator[Row]:
    """Yields the results of predicted label maps, by the definition of the task."""
    known = true != ignore
    pairs = true[known].astype(np.int64) * classes + predicted[known]
    confusion = np.bincount(pairs, minlength=classes**2).reshape(1, classes, classes)
    yield Row(name, "accuracy", float(np.mean(predicted[known] == true[known])))
    for metric, value in Segmentation().summary({"confusion": confusion}, None).items():
        yield Row(name, metric, value)


# Running text


def running_text(windows: WindowSplit) -> Int[np.ndarray, "n"]:
    """Returns the text that the windows are cut from, each token once."""
    return windows.tokens(np.arange(windows.tokens.size))[0].astype(np.int64)


def _language(splits: Mapping[str, WindowSplit], info: Info) -> Iterator[Row]:
    texts = {name: running_text(part) for name, part in splits.items()}
    size = info.keys["tokens"].num_classes or 1 + max(int(text.max()) for text in texts.values())
    model = NGrams(texts["train"], max(ORDERS), size)

    def bits(order: int, split: str = "test") -> float:  # the first token of a text is not a label
        return float(-np.log2(model.probabilities(texts[split], order)[1:]).mean())

    orders = [order for order in ORDERS if order <= model.order]
    order = _chosen(int, orders, (lambda order: -bits(order, "validation")) if "validation" in texts else None)[0]
    yield Row("unigrams", "bits_per_token", bits(1))
    yield Row(f"n-grams, modified Kneser-Ney (order={order})", "bits_per_token", bits(order))


# Series

Forecast = Callable[[Float[np.ndarray, "b p c"]], Float[np.ndarray, "b h c"]]


def _forecasts(splits: Splits, info: Info) -> Iterator[Row]:
    (window, channels), (horizon, _) = info.keys["past"].shape, info.keys["future"].shape

    def repeated(steps: Float[np.ndarray, "b s c"]) -> Float[np.ndarray, "b h c"]:
        return steps[:, np.arange(horizon) % steps.shape[1]]

    forecasts: dict[str, Forecast] = {
        "persistence": lambda past: repeated(past[:, -1:]),
        "mean of the past": lambda past: repeated(past.mean(axis=1, keepdims=True)),
    }
    if window >= SEASON:
        forecasts[f"seasonal, {SEASON} steps back"] = lambda past: repeated(past[:, -SEASON:])
    train = splits["train"]
    count = min(len(train), max(1, NUMBERS // ((window + horizon) * channels)))
    sample = train.batch(np.linspace(0, len(train) - 1, count).astype(np.int64))
    alpha, ridge = _chosen(
        lambda alpha: _linear(sample["past"], sample["future"], alpha),
        ALPHAS,
        (lambda forecast: -_errors(forecast, splits["validation"])[0]) if "validation" in splits else None,
    )
    forecasts[f"ridge, per channel (alpha={alpha:g})"] = ridge
    for name, forecast in forecasts.items():
        for metric, value in zip(("mse", "mae"), _errors(forecast, splits["test"]), strict=True):
            yield Row(name, metric, value)


def _linear(past: Float[np.ndarray, "b p c"], future: Float[np.ndarray, "b h c"], alpha: float) -> Forecast:
    """Returns one linear map from past to future per channel, as DLinear (Zeng 2022, arXiv 2205.13504)."""
    models = [
        Ridge(alpha).fit(past[:, :, i].astype(np.float64), future[:, :, i].astype(np.float64))
        for i in range(past.shape[2])
    ]
    return lambda past: np.stack([model.predict(past[:, :, i]) for i, model in enumerate(models)], axis=-1)


def _errors(forecast: Forecast, split: Split) -> tuple[float, float]:
    """Returns mean squared and mean absolute error of all windows of a split."""
    squared = absolute = numbers = 0.0
    for start in range(0, len(split), 256):
        batch = split.batch(np.arange(start, min(start + 256, len(split))))
        errors = forecast(batch["past"].astype(np.float64)) - batch["future"]
        squared, absolute = squared + np.square(errors).sum(), absolute + np.abs(errors).sum()
        numbers += errors.size
    return float(squared / numbers), float(absolute / numbers)


# Piano rolls


def _music(splits: Splits, info: Info) -> Iterator[Row]:
    del info
    arrays = _arrays(splits)
    (before, train), (test_before, test) = (_steps(arrays[name]) for name in ("train", "test"))
    yield Row("keys independent", "nll", _nats(np.broadcast_to(_frequency(train), test.shape), test))
    sounding, silent = (_frequency(train, before == value) for value in (True, False))
    yield Row("given the key's last value", "nll", _nats(np.where(test_before, sounding, silent), test))


def _steps(pieces: Batch) -> tuple[Bool[np.ndarray, "t k"], Bool[np.ndarray, "t k"]]:
    """Returns the previous step and the step itself, for all steps of all pieces except each first one."""
    notes, real = pieces["notes"] > 0, pieces["notes_mask"][:, 1:] > 0
    return notes[:, :-1][real], notes[:, 1:][real]


def _frequency(notes: Bool[np.ndarray, "t k"], where: Any = True) -> Float[np.ndarray, "k"]:
    """Returns the frequency of each key over the steps in `where`, with add-one smoothing."""
    counted = np.broadcast_to(where, notes.shape)
    return ((notes & counted).sum(axis=0) + 1) / (counted.sum(axis=0) + 2)


def _nats(probabilities: Float[np.ndarray, "t k"], notes: Bool[np.ndarray, "t k"]) -> float:
    """Returns the negative log-likelihood per step, summed over keys."""
    return float(-np.log(np.where(notes, probabilities, 1 - probabilities)).sum(axis=1).mean())


def main(argv: list[str]) -> None:
    """Prints one row per baseline and metric."""
    if argv[1:]:
        raise UserError(f"unexpected argument {argv[1]!r}: write --NAME=VALUE")
    if flags.FLAGS.config is None:
        raise UserError("--config is missing: name a recipe, such as configs/tabular.py:wine")
    config, _ = override(recipe(flags.FLAGS.config), assignments(flags.FLAGS.set))
    valid = validate(config)
    splits, info = data.load(valid.data, flags.FLAGS.data_dir)
    rows = baselines(splits, info, getattr(valid.task, "ignore", 255))
    print(f"{info.name}: {', '.join(f'{size} {name}' for name, size in info.sizes.items())}")
    width = max(len(row.baseline) for row in rows)
    print(f"{'baseline':{width}}  {'metric':14}  test")
    for row in rows:
        print(f"{row.baseline:{width}}  {row.metric:14}  {row.value:.4g}")


if __name__ == "__main__":  # train.py has flags of the same names
    flags.DEFINE_string("config", None, "Recipe, FILE.py or FILE.py:ARGUMENT.")
    flags.DEFINE_multi_string("set", [], "KEY=VALUE, a key of the config; the same as --config.KEY=VALUE.")
    flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS data sets (default: TFDS's own).")
    # Waiting threads of boosting that spin are slow when cores are shared. OpenMP reads this setting when it is loaded,
    # and `cli.run` restarts the program.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cli.run(main)
