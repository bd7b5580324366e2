"""config.init_from="hf:FOLDER", predictions without training, and the export: made-up folders, without transformers."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from PIL import Image
from safetensors.numpy import load_file, save_file

from arch.layers.norm import batch_norm
from arch.pretrained.family import families
from arch.resnet import ResNet
from core.errors import UserError
from core.info import Info, Key
from data.preprocess.tokenizers import Characters
from data.preprocess.values import as_image
from inference.export import _fields, export, expressed
from inference.export import write as export_run
from inference.predict import Trained, complete, load, predict
from training import build
from training.config import default, from_json, validate
from training.main import train
from training.overrides import assignments, override, recipe
from training.pretrained import published
from training.run import build_run
from training.state import State
from training.transfer import init_from, with_start_statistics

TEXT = "the cat sat on the mat and the dog ran away.\n" * 20
TOKENIZER = Characters()([TEXT])
SIZE = TOKENIZER.get_vocab_size()
GPT2 = {"model_type": "gpt2", "vocab_size": SIZE + 2, "n_positions": 16, "n_embd": 6, "n_layer": 2, "n_head": 3}
RESNET = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 4, "hidden_sizes": [4], "depths": [1]}
DETR = {"model_type": "detr", "architectures": ["DetrForObjectDetection"], "backbone_config": RESNET, "d_model": 8}
DETR |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 5, "decoder_ffn_dim": 5, "num_queries": 3}
DETR |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
DETR |= {"id2label": {"0": "N/A", "1": "a cat", "2": "a dog"}}
CAPTIONER = {"model_type": "vision-encoder-decoder"}
CAPTIONER["encoder"] = {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 5}
CAPTIONER["encoder"] |= {"image_size": 16, "patch_size": 8}
CAPTIONER["decoder"] = GPT2 | {"vocab_size": SIZE, "n_positions": 32, "add_cross_attention": True}
CAPTIONER["decoder_start_token_id"] = TOKENIZER.token_to_id("<bos>")
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
LLAMA = {"model_type": "llama", "vocab_size": SIZE, "max_position_embeddings": 16, "hidden_size": 12}
LLAMA |= {"intermediate_size": 7, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1}


def write(folder, config, *inputs, **fields):
    """Writes random weights for a config.json, and the tokenizer. Returns the variables."""
    family = families()[config["model_type"]]
    model = build.construct(ConfigDict({"name": family.model, **family.read_config(config), **fields}), "arch")
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(3), *(inputs or [jnp.zeros((1, 4), jnp.int32)]))
    flat = {path: np.asarray(x) for tree in variables.values() for path, x in flatten_dict(tree, sep="/").items()}
    arrays = family.write_weights(flat, family.read_config(config))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, folder / "model.safetensors")
    TOKENIZER.save(str(folder / "tokenizer.json"))
    return variables


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "gpt2", GPT2)
    return tmp_path / "gpt2"


def get_config(folder, tmp_path, **model):
    """Returns the config of a short run on made-up text that starts from the folder."""
    (tmp_path / "text.txt").write_text(TEXT)
    config = default()
    config.data.name = f"text:{tmp_path / 'text.txt'}"
    config.data.splits = {"train": "train", "validation": "", "test": ""}
    tokenize = f"tokenize('text', file('{folder / 'tokenizer.json'}'), special=False)"
    config.data.preprocess = (tokenize, "windows('text', 16)")
    config.task.name, config.task.inputs = "sequence.TokenClassification", ("tokens",)
    config.model = ConfigDict({"name": "gpt.GPT", "variant": "test", **model})
    config.optimizer.learning_rate, config.train.steps, config.train.batch_size = 1e-2, 2, 8
    config.log.writers = ()
    return validate(override(config, {"init_from": f"hf:{folder}"})[0])


def test_recipe_then_folder_then_what_is_typed(folder, tmp_path):
    old = default()
    old.model = {"name": "gpt.GPT", "variant": "GPT-2", "scan": True, "gated": True, "width": 9, "dropout": 0.5}
    config, note = override(old, assignments([f"init_from=hf:{folder}", "model.dropout=0.2", "model.depth=1"]))
    assert note == f"init_from=hf:{folder} sets the model; dropped gated, variant"
    kept = {"name": "gpt.GPT", "scan": True, "width": 6, "depth": 1, "dropout": 0.2, "context": 16}
    assert kept.items() <= config.model.to_dict().items() and config.init_from == f"hf:{folder}"
    file = tmp_path / "recipe.py"
    file.write_text(
        "from training.config import default\ndef get_config():\n    config = default()\n"
        f"    config.init_from, config.model = 'hf:{folder}', {{'name': 'mlp.MLP', 'widths': (3,)}}\n"
        "    return config\n"
    )
    assert recipe(str(file)).model.to_dict() == {"name": "gpt.GPT", **published(f"hf:{folder}").fields}


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_weights_are_loaded_and_the_rest_is_reported(folder, tmp_path, scan):
    arrays = load_file(folder / "model.safetensors")
    del arrays["transformer.h.1.mlp.c_fc.bias"]
    save_file(arrays | {"transformer.h.0.extra": np.ones(2, np.float32)}, folder / "model.safetensors")
    run = build_run(get_config(folder, tmp_path, scan=scan, pad_vocabulary=8), None)
    lines = []
    params = flatten_dict(run.create_states(lines.append)[0].params, sep="/")
    text = "\n".join(lines)
    stack = "blocks/block1/feed_forward/layer/hidden/bias" if scan else "block2/feed_forward/layer/hidden/bias"
    assert f"trunk/{stack}: " in text and "h.0.extra: no part of gpt.GPT" in text
    fused = arrays["transformer.h.1.attn.c_attn.weight"]
    key = (
        params["trunk/blocks/block1/attention/layer/key/kernel"][1]
        if scan
        else params["trunk/block2/attention/layer/key/kernel"]
    )
    assert np.array_equal(key, fused[:, 6:12])
    rows = np.asarray(params["embedding/embedding"])
    assert len(rows) % 8 == 0 and np.array_equal(rows[: SIZE + 2], arrays["transformer.wte.weight"])
    assert not rows[SIZE + 2 :].any()


@pytest.mark.slow
def test_a_run_needs_its_folder_only_at_the_start_and_is_exported(folder, tmp_path):
    workdir, to = tmp_path / "run", tmp_path / "exported"
    config = get_config(folder, tmp_path)
    train(config, str(workdir), None)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    stored = from_json((workdir / "config.json").read_text())
    assert stored.model.to_dict() == config.model.to_dict() and "variant" not in stored.model
    assert train(stored, str(workdir), None).step == 2  # continues, with nothing left to do
    export(str(workdir), f"hf:{to}")
    written, trained = published(f"hf:{to}"), load(str(workdir))
    ours = flatten_dict(trained.variables["params"], sep="/")
    params, unknown = written.params()
    assert not unknown and params.keys() == ours.keys()
    assert all(np.array_equal(params[path], ours[path]) for path in ours)
    again = build.construct(ConfigDict(written.model), "arch")
    assert not families()["gpt2"].differences(_fields(trained.model), _fields(again))
    assert written.tokenizer().get_vocab() == TOKENIZER.get_vocab()
    assert written.config["eos_token_id"] == TOKENIZER.token_to_id("<eos>")
    with pytest.raises(UserError, match="is not empty"):
        export(str(workdir), f"hf:{to}")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # no temporary folder


@pytest.mark.slow
def test_prediction_without_training(tmp_path):
    variables = write(tmp_path / "llama", LLAMA)
    old = get_config(tmp_path / "llama", tmp_path)
    text = "".join(complete(old, "the cat", 6, top_k=1))
    trained = load(old)
    assert jax.tree.all(jax.tree.map(np.array_equal, trained.variables, variables))
    ids = TOKENIZER.encode("the cat").ids
    for _ in range(6):
        logits = trained.model.apply(trained.variables, jnp.array([ids]), train=False)[0, -1]
        special = np.array(trained.info.keys["tokens"].vocabulary.special)
        ids.append(int(jnp.argmax(logits.at[special].set(-jnp.inf))))
    assert text == TOKENIZER.decode(ids)


def test_weights_in_parts_and_of_sixteen_bits(folder):
    arrays = load_file(folder / "model.safetensors")
    whole, _ = published(f"hf:{folder}").params()
    (folder / "model.safetensors").unlink()
    names = sorted(arrays)
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        half = {name: arrays[name].astype(jnp.bfloat16) for name in names if files[name] == file}
        save_file(half, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    parts, _ = published(f"hf:{folder}").params()
    assert parts.keys() == whole.keys()
    assert all(np.allclose(np.asarray(parts[path], np.float32), whole[path], rtol=1e-2, atol=1e-6) for path in whole)


def change(folder, **keys):
    (folder / "config.json").write_text(json.dumps(GPT2 | keys))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ["does not exist"]),
        (lambda folder: (folder / "config.json").unlink(), ["config.json", "cannot be read"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json", "damaged"]),
        (lambda folder: change(folder, model_type="gpt3"), ["model_type 'gpt3'", "gpt2"]),
        (lambda folder: change(folder, activation_function="mish"), ["activation_function", "mish"]),
        (lambda folder: change(folder, vocab_size=SIZE - 1), ["has", f"{SIZE} tokens", "tokenizer.json"]),
        (lambda folder: (folder / "model.safetensors").unlink(), ["model.safetensors"]),
        (lambda folder: (folder / "model.safetensors").write_text("no"), ["model.safetensors", "cannot be read"]),
        (lambda folder: (folder / "tokenizer.json").unlink(), ["tokenizer.json"]),
        (lambda folder: change(folder, n_inner=5), ["trunk/block1/feed_forward/layer/hidden/bias", "(5,)", "(24,)"]),
    ],
)
def test_folders_that_do_not_fit(folder, tmp_path, break_it, words):
    old = default()
    old.task.name, old.task.inputs = "sequence.TokenClassification", ("tokens",)
    break_it(folder)
    with pytest.raises(UserError) as refusal:
        load(override(old, {"init_from": f"hf:{folder}"})[0])
    assert all(word in str(refusal.value) for word in words) and str(folder) in str(refusal.value), refusal.value
    assert "\n" not in str(refusal.value)


def test_other_tokens_are_reported(folder, tmp_path):
    config = get_config(folder, tmp_path)
    config.data.preprocess = ("tokenize('text', words(size=30), special=False)", "windows('text', 16)")
    lines = []
    build_run(config, None).create_states(lines.append)
    assert "embedding/embedding: new, the vocabularies differ" in "\n".join(lines)


def test_a_model_that_no_type_expresses(folder, tmp_path):
    config = get_config(folder, tmp_path)
    config.model.bias, config.model.windows = False, (None, 4)
    run = build_run(config, None)
    with pytest.raises(UserError, match=r"gpt2, the nearest, not config.model.windows=\(None, 4\), config.model.b"):
        expressed(Trained(run.config, run.info, run.task, run.model, {}, run.transform))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Returns a folder with a detector, its variables, and a picture."""
    tmp_path = tmp_path_factory.mktemp("detector")
    images = jnp.zeros((1, 32, 48, 3))
    variables = write(tmp_path / "detr", DETR, images, num_classes=3)
    statistics = {f"image_{name}": numbers for name, numbers in IMAGENET.items()}
    (tmp_path / "detr" / "preprocessor_config.json").write_text(json.dumps(statistics))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "detr", variables, tmp_path / "picture.png"


def detection(folder, **changes):
    changes = {"init_from": f"hf:{folder}", "task.queries": 3, "task.threshold": 0.0} | changes
    config, _ = override(recipe("configs/detection.py:coco"), {"data.preprocess": ("letterbox(32, 48)",)} | changes)
    return validate(config)


@pytest.mark.slow
def test_boxes_on_a_canvas_are_those_of_the_image(detector, tmp_path):
    """An image has the same boxes alone and beside another one, in fractions of itself and not of the canvas, whose
    padding the network does not read."""
    folder, _, picture = detector
    tall, canvas = Image.open(picture).crop((0, 0, 40, 64)), Image.new("RGB", (48, 32))
    tall.save(tmp_path / "tall.png")
    canvas.paste(tall.resize((20, 32), Image.Resampling.BILINEAR))
    canvas.save(tmp_path / "canvas.png")

    def boxes(found):
        return np.array([[one["box"] for one in row["prediction"]] for row in found.rows])

    alone, together = (
        predict(detection(folder), [*others, str(tmp_path / "tall.png")]) for others in ([], [str(picture)])
    )
    np.testing.assert_allclose(boxes(together)[1:], boxes(alone), atol=1e-4)
    np.testing.assert_allclose(boxes(together)[:1], boxes(predict(detection(folder), [str(picture)])), atol=1e-5)
    given = predict(detection(folder, **{"task.inputs": ("image",)}), [str(tmp_path / "canvas.png")])
    run, pixels = given.run, given.run.transform(None, given.inputs.batch)["image"]
    outputs = run.model.apply(run.variables, pixels, jnp.array([[0, 0, 1, 20 / 48]]), train=False)
    x, y, width, height = np.moveaxis(outputs["boxes"][0, 0], -1, 0)
    edges = np.stack([y - height / 2, (x - width / 2) * 2.4, y + height / 2, (x + width / 2) * 2.4], -1)
    order = np.argsort(-jax.nn.softmax(outputs["logits"][0, 0])[:, :-1].max(-1))
    np.testing.assert_allclose(boxes(alone)[0], edges[order], atol=1e-4)
    assert np.abs(boxes(given)[0, :, [0, 2]] - boxes(alone)[0, :, [0, 2]]).max() > 1e-3  # that read the padding, too


@pytest.mark.slow
def test_boxes_of_a_picture_without_training(detector, tmp_path):
    """The recipe has the statistics of ImageNet; `normalise()` takes those of the folder."""
    folder, variables, picture = detector
    found = predict(detection(folder), [str(picture)])
    assert jax.tree.all(jax.tree.map(np.array_equal, found.run.variables, variables))
    pixels = as_image(np.asarray(Image.open(picture)), (32, 48)) / np.float32(255)
    normalised = (pixels - np.float32(IMAGENET["mean"])) / np.float32(IMAGENET["std"])
    outputs = jax.jit(functools.partial(found.run.model.apply, train=False))(variables, jnp.asarray(normalised)[None])
    probability = jax.nn.softmax(outputs["logits"][0, 0])[:, :-1].max(-1)
    rows = found.rows[0]["prediction"]
    np.testing.assert_allclose([row["probability"] for row in rows], sorted(probability, reverse=True), atol=1e-5)
    assert {row["label"] for row in rows} <= {"N/A", "a cat", "a dog"}
    own, batch = load(detection(folder, **{"augment.ops": ("normalise()",)})), found.inputs.batch
    np.testing.assert_allclose(own.transform(None, batch)["image"][0], normalised, atol=1e-6)
    bare = shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("preprocessor*"))
    with pytest.raises(UserError, match=r"normalise: give mean and std, as .*preprocessor_config.json"):
        load(detection(bare, **{"augment.ops": ("normalise()",)}))
    assert load(detection(bare)).task == found.run.task


def test_a_detector_is_exported_with_its_statistics(detector, tmp_path):
    folder, variables, _ = detector
    run = load(detection(folder))
    export_run(run, tmp_path / "again")
    again = load(detection(tmp_path / "again"))
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, variables))
    written = published(f"hf:{tmp_path / 'again'}")
    np.testing.assert_allclose([written.statistics[name] for name in IMAGENET], list(IMAGENET.values()), rtol=1e-6)
    assert written.classes == ("N/A", "a cat", "a dog") == again.task.classes
    other = dataclasses.replace(run, model=run.model.clone(backbone=functools.partial(ResNet, norm=batch_norm)))
    with pytest.raises(UserError, match=r"detr, the nearest, not config.model.backbone=ResNet"):
        expressed(other)


def test_a_run_starts_with_the_batch_statistics(detector):
    """`normalise(start=True)` takes the folder's statistics of images. With other classes the head is new."""
    folder, variables, _ = detector
    config = detection(folder, **{"augment.ops": ("normalise(start=True)",)})
    keys = {"image": Key((32, 48, 3), "uint8", "image"), "objects/label": Key((4,), "int32", "label", ("x", "y", "z"))}
    info = with_start_statistics(Info("shapes", {}, keys), [config])
    assert info.keys["image"].statistics == IMAGENET and not info.keys["objects/label"].statistics
    params, statistics = (jax.tree.map(jnp.zeros_like, variables[name]) for name in ("params", "batch_stats"))
    state = State(0, params, {"batch_stats": statistics}, (), None, jax.random.key(0))
    after, said = init_from(f"hf:{folder}", state, info, load(config).model)
    assert jax.tree.all(jax.tree.map(np.array_equal, after.mutable["batch_stats"], variables["batch_stats"]))
    assert said[1:] == [f"  head/{name}: the head is new, the classes differ" for name in ("bias", "kernel")]
    assert jax.tree.all(jax.tree.map(np.array_equal, after.params["box_head"], variables["params"]["box_head"]))


@pytest.mark.slow
def test_a_caption_without_training(tmp_path):
    """The recipe enlarges the picture to 224 x 224 pixels, and the positions of this encoder are those of 16 x 16."""
    images, tokens = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 4), jnp.int32)
    variables = write(tmp_path / "captioner", CAPTIONER, images, tokens)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    start, changes = {"init_from": f"hf:{tmp_path / 'captioner'}"}, {"task.beams": 1, "task.max_length": 5}
    tokenize = ("tokenize('text', start(words(size=9)))",)
    config, _ = override(recipe("configs/captions.py:csv"), start | changes | {"data.preprocess": tokenize})
    found = predict(config, [str(tmp_path / "picture.png")])
    model, vocabulary = found.run.model, found.run.task.vocabulary
    ids = [vocabulary.bos, *found.outputs["prediction"][0].tolist()]
    apply = jax.jit(functools.partial(model.apply, train=False))
    logits = apply(variables, jnp.asarray(pixels)[None] / 127.5 - 1, jnp.array([ids[:-1]]))
    assert jnp.argmax(logits[0], -1).tolist() == ids[1:] and len(ids) == 6
    assert found.rows[0]["prediction"] == vocabulary.text(ids)
    with pytest.raises(UserError, match="parameter image_network/positions/embedding has the shape"):
        load(override(recipe("configs/captions.py:csv"), start)[0])
    with pytest.raises(UserError, match=r"the tokens are not those of .*tokenizer.json: tokenize with file"):
        load(
            override(recipe("configs/captions.py:csv"), start | {"data.preprocess": ("tokenize('text', words())",)})[0]
        )
