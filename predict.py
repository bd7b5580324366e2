"""Use a trained run:
    python predict.py --workdir=runs/digits IMAGE... [--output=FILE.csv|FILE.jsonl]    images, or a table, or sounds
    python predict.py --workdir=runs/shapes IMAGE --output=map.png --draw=drawn.png     an image to segment
    python predict.py --workdir=runs/boxes IMAGE --output=boxes.json --draw=drawn.png   an image with objects
    python predict.py --workdir=runs/multi30k < LINES                       texts to classify, tag, translate, complete
    python predict.py --workdir=runs/shakespeare --prompt="ROMEO:"                      a text to continue
    echo seven | python predict.py --workdir=runs/wavenet --output=seven.wav            a class to pronounce
    python predict.py --init_from=hf:DIR --config=configs/gpt.py:gpt2 --prompt="Once"   published weights, untrained

Prints one line per input: the prediction, and for classes the probability of each. `--draw=FILE.png` draws predictions
over their images, if the task does. `--attention=FILE.png` draws the attention weights for the first input, if the
model has them.
"""

import sys

from absl import flags

from core import cli
from core.errors import printable
from training.config import validate
from training.overrides import assignments, override, recipe
from training.pretrained import PREFIX

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_INIT_FROM = flags.DEFINE_string("init_from", None, "Published weights instead of a run, hf:FOLDER; with --config.")
_CONFIG = flags.DEFINE_string("config", None, "Recipe for --init_from, FILE.py or FILE.py:ARGUMENT.")
_SET = flags.DEFINE_multi_string("set", [], "KEY=VALUE, a key of this recipe; the same as --config.KEY=VALUE.")
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Also write the predictions: .csv, .json, .jsonl; .wav for sounds; .png for label maps; .npy for arrays.",
)
_DRAW = flags.DEFINE_string("draw", None, "Draw the predictions over their images to this file: .png or .svg.")
_ATTENTION = flags.DEFINE_string("attention", None, "Draw the first input's attention to this file: .png or .svg.")
_PROMPT = flags.DEFINE_string("prompt", None, "Beginning of a text that a language model continues.")
_LENGTH = flags.DEFINE_integer("length", 500, "Number of tokens after the prompt.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed for sampling.", lower_bound=0, upper_bound=2**32 - 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Divides the logits: lower is more conservative.")
_TOP_K = flags.DEFINE_integer("top_k", 0, "Sample from the top_k most probable tokens; 0 = all.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Sample from the most probable tokens with this total probability (nucleus).")
_BEAMS = flags.DEFINE_integer("beams", 0, "Most probable text by a search with this number of beams; 0 = sample.")


def main(argv):
    from inference import inputs, pictures, predict  # after the flags, so that a typo in them is reported at once

    source = _source()
    if _PROMPT.value is None and (unread := [name for name in ("length", "beams") if flags.FLAGS[name].present]):
        raise cli.UserError(f"--{unread[0]} needs --prompt; without a prompt, config.task.beams of the run applies")
    choice = {"temperature": _TEMPERATURE.value, "top_k": _TOP_K.value, "top_p": _TOP_P.value}
    if _PROMPT.value is not None:
        if argv[1:] or _OUTPUT.value or _DRAW.value or _ATTENTION.value:
            raise cli.UserError("--prompt excludes files, --output, --draw and --attention")
        pieces = predict.complete(source, _PROMPT.value, _LENGTH.value, _SEED.value, **choice, beams=_BEAMS.value)
        for piece in pieces:
            print("".join(text if text == "\n" else printable(text) for text in piece), end="", flush=True)
        print()
        return
    lines = [] if argv[1:] or sys.stdin.isatty() else inputs.text_lines(sys.stdin)
    if not argv[1:] and not lines:
        raise cli.UserError("nothing to predict: name files (images, a table, sounds), give lines of text, or --prompt")
    if _OUTPUT.value:
        predict.check_output(_OUTPUT.value, tuple(predict.WRITERS))
    for flag, picture in (("--draw", _DRAW.value), ("--attention", _ATTENTION.value)):
        if picture:
            predict.check_output(picture, (".png", ".svg"), flag)
    predictions = predict.predict(source, argv[1:], lines, _SEED.value, **choice)
    if _ATTENTION.value:
        pictures.draw_attention(_ATTENTION.value, predictions)
    if _DRAW.value:
        pictures.draw(_DRAW.value, predictions)
    if _OUTPUT.value:
        predict.write(_OUTPUT.value, predictions)
    for row in predictions.rows:  # last: the reader of the lines may end early
        print(predict.line(row))


def _source():
    """Returns the workdir, or the config with `init_from`."""
    if _INIT_FROM.value and _WORKDIR.value:
        raise cli.UserError("--init_from and --workdir exclude each other: a trained run has its own weights")
    if _INIT_FROM.value:
        if not (_CONFIG.value and _INIT_FROM.value.startswith(PREFIX)):
            raise cli.UserError("--init_from=hf:FOLDER needs the recipe of its task: --config=configs/gpt.py:gpt2")
        return validate(override(recipe(_CONFIG.value), assignments(_SET.value) | {"init_from": _INIT_FROM.value})[0])
    if not _WORKDIR.value:
        raise cli.UserError("--workdir is missing: name the folder of a trained run, such as runs/digits")
    if _CONFIG.value or _SET.value:
        raise cli.UserError("--config and --set need --init_from=hf:FOLDER; a run uses its stored config")
    return _WORKDIR.value


if __name__ == "__main__":
    cli.run(main)
