"""Writes a trained run in Hugging Face's format, or as a file of PyTorch:
    python -m inference.export --workdir=runs/gpt --to=hf:FOLDER
    python -m inference.export --workdir=runs/resnet --to=torch:FILE.safetensors

`transformers` loads the folder by its class for the head, such as AutoModelForCausalLM.from_pretrained, and by
AutoTokenizer.from_pretrained. The file has torchvision's names:
`model.load_state_dict(safetensors.torch.load_file("FILE.safetensors"))`.
"""

import dataclasses
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import flags
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree
from ml_collections import ConfigDict
from tokenizers import Tokenizer

from arch.layers.stacking import unstacked
from arch.pretrained.family import Family, families
from core import cli
from core.calls import parse
from core.errors import UserError, nearest
from core.info import Info
from data.augment.normalise import Normalise
from inference.predict import Trained, load
from training import build, torch_file
from training.pretrained import CONFIG, IMAGES, PREFIX, TOKENIZER, WEIGHTS, is_published

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_TO = flags.DEFINE_string("to", None, "Where to write, hf:FOLDER (new or empty) or torch:FILE.safetensors (new).")

BILINEAR = 2  # PIL's number
# token in tokenizer_config.json -> field of `Vocabulary`; encoders have the last three
SPECIAL = {f"{name}_token": name for name in ("bos", "eos", "pad", "unk")}
SPECIAL |= {"cls_token": "bos", "sep_token": "sep", "mask_token": "mask"}


def main(argv):
    if argv[1:] or not (_WORKDIR.value and _TO.value):
        raise UserError("write --workdir=RUN --to=hf:FOLDER or --to=torch:FILE.safetensors, and no other argument")
    export(_WORKDIR.value, _TO.value)


def export(workdir: str, to: str) -> Path:
    """Writes the weights that `predict.py` uses, the config and the tokenizer to the folder of "hf:FOLDER", or the
    weights alone to "torch:FILE.safetensors". The folder appears complete or not at all.

    Raises UserError for a folder that is not empty or a file that exists, and for a model that no `model_type` can
    express, whose fields it names.
    """
    if to.startswith(torch_file.PREFIX):
        run = load(workdir)
        return torch_file.write(to, {name: _flat(tree) for name, tree in run.variables.items()}, run.model)
    if not is_published(to):
        raise UserError(f"--to={to}: write --to={PREFIX}FOLDER or --to={torch_file.PREFIX}FILE.safetensors")
    folder = Path(to.removeprefix(PREFIX)).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--to: {folder} exists and is not empty")
    write(load(workdir), folder)
    return folder


def write(run: Trained, folder: Path) -> None:
    """Writes a model, its config and its tokenizer to a new or empty folder. Raises UserError as `export`."""
    family, config, shapes = expressed(run)
    arrays = family.write_weights(_arrays(run, shapes), family.read_config(config))
    texts = {CONFIG: config | _special_ids(run.info, config) | _class_names(run, config)} | _tokenizers(run)
    texts |= _images(run, family)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        torch_file.save(arrays, part / WEIGHTS)
        for name, content in texts.items():
            (part / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        part.chmod(0o755)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def expressed(run: Trained) -> tuple[Family, dict[str, Any], dict[str, tuple[int, ...]]]:
    """Returns the `model_type` that expresses a model, its config.json, and the shapes of its parameters and
    batch statistics.

    A config.json expresses a model if the model that it describes has the same fields. Raises UserError otherwise.
    """
    name, fields = parse(run.config.model.name, "config.model.name").name, _fields(run.model)
    candidates = [family for family in families().values() if family.model == name]
    if not candidates:
        options = {family.model for family in families().values()}
        raise UserError(f"{name} has no model_type of Hugging Face's format: {nearest(name, options)}")
    problems = {}
    for family in candidates:
        config = family.write_config(fields)
        try:
            again = build.construct(ConfigDict({"name": name, **family.read_config(config)}), "arch")
        except UserError as error:
            problems[family.model_type] = [str(error)]
            continue
        different = [
            f"config.model.{name}={_shown(fields[name])}" for name in family.differences(fields, _fields(again))
        ]
        ids = _special_ids(run.info, config)
        different += [f"{key}={ids[key]}" for key in ids if config.get(key, ids[key]) != ids[key]]
        if not different:
            shapes = _shapes(again, run)
            return family, config | family.of_shapes(shapes, config), shapes
        problems[family.model_type] = different
    closest = min(problems, key=lambda kind: len(problems[kind]))
    raise UserError(f"no model_type expresses this {name}: {closest}, the nearest, not {', '.join(problems[closest])}")


def _fields(model: nn.Module) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(model))
    return {name: getattr(model, name) for name in names if name not in ("parent", "name")}


def _flat(tree: PyTree) -> dict[str, np.ndarray]:
    """Returns variables by path, each block of a scanned trunk by itself."""
    return unstacked(flatten_dict(jax.tree.map(np.asarray, tree), sep="/"))


def _shown(value: Any) -> str:
    target = value.func if isinstance(value, functools.partial) else value
    return getattr(target, "__name__", repr(value))


def _shapes(model: nn.Module, run: Trained) -> dict[str, tuple[int, ...]]:
    inputs = build.model_inputs(run.task, run.transform, run.info)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *inputs)
    return {path: x.shape for tree in variables.values() for path, x in flatten_dict(tree, sep="/").items()}


def _arrays(run: Trained, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns parameters and batch statistics by path, without the rows of `pad_vocabulary`."""
    flat = {path: x for tree in run.variables.values() for path, x in _flat(tree).items()}
    cut = {path: tuple(map(slice, shapes.get(path, x.shape))) for path, x in flat.items()}
    return {path: np.ascontiguousarray(x[cut[path]], np.float32) for path, x in flat.items()}


def _special_ids(info: Info, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the special ids of the vocabulary that the model writes, if there is one; without padding, the end token
    pads."""
    vocabularies = [record.vocabulary for record in info.keys.values() if record.vocabulary]
    if not vocabularies:
        return {}
    found = vocabularies[-1]
    pad = found.eos if found.pad is None else found.pad
    bos = config.get("decoder_start_token_id", found.bos)
    return {"bos_token_id": bos, "eos_token_id": found.eos, "pad_token_id": pad, "forced_eos_token_id": None}


def _class_names(run: Trained, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the names of the classes, for a head that has classes."""
    names = getattr(run.task, "classes", ()) if "id2label" in config else ()
    if not names:
        return {}
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {x: i for i, x in enumerate(names)}}


def _images(run: Trained, family: Family) -> dict[str, Any]:
    """Returns file -> content of the size and normalisation of images, for a network that reads them."""
    if family.image is None:
        return {}
    key = run.task.conditions[0]
    height, width, channels = run.info.keys[key].shape
    content = {"image_processor_type": family.processor, "do_resize": True, "size": {"height": height, "width": width}}
    content |= {"resample": BILINEAR, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False}
    for op in run.transform.ops:
        if isinstance(op, Normalise) and key in op.normalised:
            numbers = {name: np.broadcast_to(x, channels).tolist() for name, x in op.statistics(key).items()}
            content |= {"do_normalize": True} | {f"image_{name}": x for name, x in numbers.items()}
    return {IMAGES: content}


def _tokenizers(run: Trained) -> dict[str, Any]:
    """Returns file -> content: of one tokenizer its two files, of several a file KEY.tokenizer.json each."""
    found = {key: record.vocabulary for key, record in run.info.keys.items() if record.vocabulary}
    found = {key: vocabulary for key, vocabulary in found.items() if vocabulary.tokenizer}
    contents = {key: _unpadded(vocabulary.tokenizer) for key, vocabulary in found.items()}
    if len(set(map(json.dumps, contents.values()))) != 1:
        return {f"{key}.{TOKENIZER}": content for key, content in contents.items()}
    key, vocabulary = next(iter(found.items()))
    ids = {token: getattr(vocabulary, name) for token, name in SPECIAL.items()}
    if vocabulary.mask is None:
        del ids["cls_token"]
    elif vocabulary.sep is None:
        ids["sep_token"] = vocabulary.eos
    tokenizer = Tokenizer.from_str(vocabulary.tokenizer)
    config = {name: tokenizer.id_to_token(index) for name, index in ids.items() if index is not None}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if run.model.context:
        config["model_max_length"] = run.model.context
    return {TOKENIZER: contents[key], "tokenizer_config.json": config}


def _unpadded(text: str) -> dict[str, Any]:
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return json.loads(tokenizer.to_str())


if __name__ == "__main__":
    cli.run(main)
