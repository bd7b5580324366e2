"""Predicts new inputs with the checkpoint of a workdir; the data set is not needed."""

import dataclasses
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree
from ml_collections import ConfigDict
from PIL import Image

from arch.layers.decoder import Decoder
from arch.layers.stacking import stacked
from arch.pretrained.table import collections
from core.errors import UserError, printable
from core.info import Info, Key
from core.regions import region_of, without_padding
from data.augment.normalise import Normalise
from data.augment.op import parse_op as augment_op
from data.augment.transform import Transform
from data.dataset import describe
from data.preprocess.pipeline import Pipeline, parse_op
from data.preprocess.values import NUMBER, as_label_map
from data.preprocess.windows import Windows
from data.sources.files import Columns
from data.sources.images import image_size
from inference.inputs import Inputs, encode, text_key
from tasks.task import Task
from training import build, compilation_cache, memory, pretrained
from training.checkpoint import read_best
from training.decoding import beam_search, generate, sampler, state_shapes, stream
from training.workdir import Workdir, check_writable, to_json, write_whole, writing

BATCH = 256  # inputs per call of the model
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model and all that is needed to use it."""

    config: ConfigDict
    info: Info
    task: Task
    model: nn.Module
    variables: PyTree
    transform: Transform


def load(workdir: str | ConfigDict) -> Trained:
    """Returns the best checkpoint of a run if it keeps one, else the last; averaged weights if these are evaluated. For
    a config, the published weights of its `init_from`.

    Raises UserError for a workdir without a readable checkpoint.
    """
    compilation_cache.use()
    if isinstance(workdir, ConfigDict):
        return load_published(workdir)
    folder = Workdir(workdir)
    config = folder.config()
    _, state, meta = read_best(folder.path, functools.partial(print, file=sys.stderr))  # stdout is for predictions
    info = Info.from_json(meta["info"])
    transform, task, model = build.parts(config, info)
    averaged = config.train.ema_decay and (not config.checkpoint.best or "_ema/" in config.checkpoint.best)
    variables = state["ema"] if averaged else {"params": state["params"], **(state["mutable"] or {})}
    return Trained(config, info, task, *build.deployed(model, variables), transform)


def load_published(config: ConfigDict) -> Trained:
    """Returns the model of `config.init_from`, "hf:FOLDER", with its weights and its tokenizer, without training.

    Raises UserError for a folder that lacks a file or a parameter.
    """
    found = pretrained.published(config.init_from)
    info = _info(found, config)
    if not found.has_tokens_of(info):
        file = found.folder / pretrained.TOKENIZER
        raise UserError(f"config.data.preprocess: the tokens are not those of {file}: tokenize with file('{file}')")
    transform, task, model = build.parts(config, info)
    inputs = build.model_inputs(task, transform, info)
    wanted = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *inputs)
    shapes = {path: x.shape for tree in wanted.values() for path, x in flatten_dict(tree, sep="/").items()}
    arrays = stacked(found.fitted(shapes)[0], like=shapes)
    for path, shape in shapes.items():
        if path not in arrays or arrays[path].shape != shape:
            theirs = arrays[path].shape if path in arrays else "none"
            kind = ", ".join(found.config.get("architectures") or [found.family.architecture])
            where = f"{found.folder} ({kind})"
            raise UserError(f"{where}: parameter {path} has the shape {shape} here, and {theirs} there")
    flat = collections({path: jnp.asarray(arrays[path], jnp.float32) for path in shapes})
    variables = {name: unflatten_dict(flat[name], sep="/") for name in wanted}
    return Trained(config, info, task, *build.deployed(model, variables), transform)


def _info(found: pretrained.Published, config: ConfigDict) -> Info:
    """Returns the description of the inputs of a published model, from a made-up example, and of the answers that the
    task compares with, whose classes are those of the model.

    Raises UserError for images whose statistics are unknown.
    """
    task = build.construct(config.task, "tasks")
    ops = [text for text in found.preprocess(config.data.preprocess) if not parse_op(text).opens]
    roles = {key: role for op in map(parse_op, ops) for key, role in op.reads.items()}
    examples = {key: (["a text of several words"], None) for key, role in roles.items() if role == "text"}
    keys = {key: Key(role=role, classes=() if role == "text" else found.classes) for key, role in roles.items()}
    if found.family.image:
        image = task.conditions[0]
        examples[image] = (np.zeros((1, *found.family.image(found.config)), np.uint8), None)
        keys[image] = Key(role="image")
    info = describe(ops, Columns(examples), keys, config.init_from)
    if found.family.image:
        _check_normalised(found, config)
        record = dataclasses.replace(info.keys[image], statistics=found.statistics)
        info = dataclasses.replace(info, keys=info.keys | {image: record})
    available = build.transformed_batch(Transform.create(config.augment.ops, info), info)
    lacking = [key for key in task.keys if key not in available]
    answer = Key(dtype="int32", role="label", classes=found.classes)
    return dataclasses.replace(info, keys=info.keys | dict.fromkeys(lacking, answer))


def _check_normalised(found: pretrained.Published, config: ConfigDict) -> None:
    """Raises UserError for an op that needs the statistics of images, if the folder has none."""
    asking = [op for op in map(augment_op, config.augment.ops) if isinstance(op, Normalise) and not op.mean]
    if asking and not found.statistics:
        file = found.folder / pretrained.IMAGES
        raise UserError(f"config.augment.ops: normalise: give mean and std, as {file} does not have them")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions of a trained run.

    Attributes:
        outputs: of the model, arrays with a leading axis of inputs.
        rows: a dict per input: `input`, `prediction` (a class's name, a number, a text, or a list of these) and, for
            one class per input, `probability` (class -> probability).
    """

    run: Trained
    inputs: Inputs
    outputs: dict[str, np.ndarray]
    rows: list[dict]


def predict(
    workdir: str | ConfigDict, files: list[str], lines: list[str] | None = None, seed: int = 0, **choice: Any
) -> Predictions:
    """Returns the predictions for new inputs.

    Args:
        files: images, tables (one input per row) or sounds, of the kind that the run was trained on.
        lines: texts, for a run that reads text, or names of classes, for one that generates from a class.
        seed, choice: for a run that draws sounds, the seed and the arguments of `training.decoding.sampler`.

    Raises UserError for a workdir without a checkpoint, or an input that is unreadable or of another kind.
    """
    run = load(workdir)

    @jax.jit
    def apply(variables, batch, rng):
        batch = run.transform(None, batch)
        if run.task.generates:
            sampling = {"rng": rng, **choice}
            decoded = generate(run.model, variables, run.task, batch, capture=("attention",), **sampling)
            arrays = {"prediction": decoded.tokens, "lengths": decoded.lengths, "score": decoded.score}
            return arrays | decoded.captured
        outputs = run.model.apply(variables, *(batch[name] for name in run.task.inputs), train=False)
        return run.task.predict(outputs)

    sampler(jax.random.key(seed), **choice)  # refuses numbers out of range, also for a run that does not sample
    inputs = encode(run.config, run.info, run.task, files, lines or [])
    step, pieces = None, []
    for start in range(0, len(inputs.names), BATCH):
        part = {key: x[start : start + BATCH] for key, x in inputs.batch.items()}
        count = len(inputs.names[start : start + BATCH])
        if len(inputs.names) > BATCH:  # the last part is padded: one compilation
            part = {key: np.resize(x, (BATCH, *x.shape[1:])) for key, x in part.items()}
        rng = jax.random.fold_in(jax.random.key(seed), start)
        step = step or memory.compiled(apply, run.variables, part, rng, advice="give fewer files, lines or rows")
        pieces.append({key: np.asarray(x)[:count] for key, x in step(run.variables, part, rng).items()})
    outputs = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
    rows = []
    for i, name in enumerate(inputs.names):
        example, prediction = ({key: x[i] for key, x in arrays.items()} for arrays in (inputs.batch, outputs))
        example |= {key: texts[i] for key, texts in inputs.texts.items()}
        rows.append({"input": name} | run.task.row(example, prediction, run.info))
    return Predictions(run, inputs, outputs, rows)


def complete(
    workdir: str | ConfigDict,
    prompt: str,
    length: int,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    beams: int = 0,
) -> Iterator[str]:
    """Yields `prompt` and its continuation by a language model, piece by piece: up to `length` tokens.

    Args:
        beams: 0: tokens are drawn as by `training.decoding.sample`; otherwise the most probable text by beam search.

    Raises UserError for a run of another kind of model, an empty prompt, or a prompt beyond the model's context.
    """
    run = load(workdir)
    reads = run.task.inputs[0]
    vocabulary = run.info.keys[reads].vocabulary
    fitted = Pipeline.from_json(run.info.state["preprocess"])
    running = fitted.ops[-1] if fitted.ops else None
    if not (isinstance(running, Windows) and vocabulary and isinstance(run.model, Decoder)):
        raise UserError(f"--prompt: {run.config.model.name} is not a language model")
    if not prompt:
        raise UserError("--prompt is empty: begin with at least one character")
    ids = np.asarray(fitted({text_key(fitted, run.info, reads): [prompt]})[reads][0], np.int32)
    eos = vocabulary.eos if running.documents else None  # otherwise no text of the training has an end
    ends = {"eos_id": eos, "suppress": tuple(index for index in vocabulary.special if index != eos)}
    if beams:
        tokens = _most_probable(run, ids, length, beams, **ends)
    else:
        choose = sampler(jax.random.key(seed), temperature, top_k, top_p)
        memory.check_cache(run.variables, state_shapes(run.model, run.variables, len(ids), length), "lower --length")
        tokens = stream(run.model, run.variables, ids.tolist(), choose, length=length, **ends)
    yield prompt
    yield from vocabulary.stream(tokens)


def _most_probable(run: Trained, ids: np.ndarray, length: int, beams: int, **ends: Any) -> list[int]:
    conditions = [jnp.asarray(ids[None]), jnp.array([len(ids)], jnp.int32)]

    @jax.jit
    def search(variables):
        decoded = beam_search(run.model, variables, conditions, length=length, beams=beams, **ends)
        return decoded.tokens[0], decoded.lengths[0]

    tokens, written = memory.compiled(search, run.variables, advice="lower --beams or --length")(run.variables)
    return np.asarray(tokens[:written]).tolist()


def line(row: dict, most: int = 5) -> str:
    """Returns a row as text without control characters: input, prediction, and the `most` probable classes."""
    return printable(_line(row, most))


def _line(row: dict, most: int) -> str:
    prediction = row["prediction"]
    if "probability" in row:
        likely = sorted(row["probability"].items(), key=lambda pair: -pair[1])[:most]
        return f"{row['input']}\t{prediction}\t" + "  ".join(f"{name} {value:.4f}" for name, value in likely)
    shown = f"{prediction:.6g}" if isinstance(prediction, float) else prediction
    return f"{row['input']}\t{shown if isinstance(shown, str) else to_json(shown)}"


def check_output(path: str, suffixes: tuple[str, ...], flag: str = "--output") -> None:
    """Raises UserError for an output file of another type, or one that is not writable."""
    if Path(path).suffix not in suffixes:
        raise UserError(f"{flag} {path} must end in {' or '.join(suffixes)}")
    check_writable(Path(path).parent, f"{flag} {path}")


def write(path: str, predictions: Predictions) -> None:
    """Writes predictions in the format of the file's suffix (`WRITERS`). Formats of one prediction write FILE.wav, or
    FILE-1.wav, FILE-2.wav, ... if there are several.

    Raises UserError for a format that the predictions of the run do not have.
    """
    WRITERS[Path(path).suffix](Path(path), predictions)


def _write_csv(path: Path, predictions: Predictions) -> None:
    """Writes one column `p(CLASS)` per class; lists and dicts as JSON."""
    flat = [
        {
            "input": row["input"],
            "prediction": to_json(row["prediction"])
            if isinstance(row["prediction"], list | dict)
            else row["prediction"],
            **{f"p({k})": p for k, p in row.get("probability", {}).items()},
        }
        for row in predictions.rows
    ]
    table = pd.DataFrame(flat).rename(columns=_cell).map(_cell)
    write_whole(path, table.to_csv(index=False))


def _cell(value: Any) -> Any:
    """Returns a value of a table; text that a spreadsheet would compute gets an apostrophe, as it shows text."""
    is_formula = isinstance(value, str) and value.startswith(FORMULAS) and not re.fullmatch(NUMBER, value)
    return f"'{value}" if is_formula else value


def _write_jsonl(path: Path, predictions: Predictions) -> None:
    write_whole(path, "".join(to_json(row) + "\n" for row in predictions.rows))


def _write_json(path: Path, predictions: Predictions) -> None:
    write_whole(path, to_json(predictions.rows, indent=1) + "\n")


def _write_sounds(path: Path, predictions: Predictions) -> None:
    from scipy.io import wavfile

    task = predictions.run.task
    if not task.rate:
        raise UserError(f"--output {path}: this run does not generate sounds: write a .csv or .jsonl")
    for name, i in _numbered(path, predictions):
        samples = task.sound({key: x[i] for key, x in predictions.outputs.items()})
        with writing(name) as file:
            wavfile.write(file, task.rate, np.round(samples * np.iinfo(np.int16).max).astype(np.int16))


def _write_label_maps(path: Path, predictions: Predictions) -> None:
    """Writes the class id of each pixel as a grey image, in the size of the input's image file."""
    maps, batch, image = predictions.outputs["prediction"], predictions.inputs.batch, predictions.run.task.inputs[0]
    if maps.ndim != 3 or maps.dtype != np.uint8:
        raise UserError(f"--output {path}: this run does not predict a class per pixel of an image: write a .jsonl")
    for name, i in _numbered(path, predictions):
        size = image_size(predictions.inputs.names[i])
        found = without_padding(maps[i], region_of({key: x[i] for key, x in batch.items()}, image))
        with writing(name) as file:
            Image.fromarray(as_label_map(found, size)[..., 0]).save(file)


def _write_array(path: Path, predictions: Predictions) -> None:
    for name, i in _numbered(path, predictions):
        with writing(name) as file:
            np.save(file, predictions.outputs["prediction"][i])


def _numbered(path: Path, predictions: Predictions) -> Iterator[tuple[Path, int]]:
    """Yields a file and the number of its prediction."""
    count = len(predictions.rows)
    for i in range(count):
        yield (path if count == 1 else path.with_stem(f"{path.stem}-{i + 1}")), i


WRITERS = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".jsonl": _write_jsonl,
    ".wav": _write_sounds,
    ".png": _write_label_maps,
    ".npy": _write_array,
}
