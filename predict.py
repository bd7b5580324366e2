"""Use a trained run:
    python predict.py --workdir=runs/digits IMAGE... [--output=FILE.csv|FILE.jsonl]    images, or a table, or sounds
    python predict.py --workdir=runs/multi30k < LINES                                   texts to classify or translate
    python predict.py --workdir=runs/shakespeare --prompt="ROMEO:"                      a text to continue

Prints one line per input: the prediction, and for classes the probability of each. `--attention=FILE.png` draws the
attention weights for the first input, if the model has them.
"""

import sys

from absl import flags

from core import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_OUTPUT = flags.DEFINE_string("output", None, "Also write the predictions to this file: .csv or .jsonl.")
_ATTENTION = flags.DEFINE_string("attention", None, "Draw the first input's attention to this file: .png or .svg.")
_PROMPT = flags.DEFINE_string("prompt", None, "Beginning of a text that a language model continues.")
_LENGTH = flags.DEFINE_integer("length", 500, "Number of tokens after the prompt.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed for sampling.")
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Divides the logits: lower is more conservative.")
_TOP_K = flags.DEFINE_integer("top_k", 0, "Sample from the top_k most probable tokens; 0 = all.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Sample from the most probable tokens with this total probability (nucleus).")
_BEAMS = flags.DEFINE_integer("beams", 0, "Most probable text by a search with this number of beams; 0 = sample.")


def main(argv):
    from inference import inputs, predict  # after the flags, so that a typo in them is reported at once

    if not _WORKDIR.value:
        raise cli.UserError("--workdir is missing: name the folder of a trained run, such as runs/digits")
    if _PROMPT.value is not None:
        if argv[1:] or _OUTPUT.value or _ATTENTION.value:
            raise cli.UserError("--prompt excludes files, --output and --attention")
        choice = {"temperature": _TEMPERATURE.value, "top_k": _TOP_K.value, "top_p": _TOP_P.value}
        pieces = predict.complete(
            _WORKDIR.value, _PROMPT.value, _LENGTH.value, _SEED.value, **choice, beams=_BEAMS.value
        )
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    lines = [] if argv[1:] or sys.stdin.isatty() else inputs.text_lines(sys.stdin)
    if not argv[1:] and not lines:
        raise cli.UserError("nothing to predict: name files (images, a table, sounds), give lines of text, or --prompt")
    if _OUTPUT.value:
        predict.check_output(_OUTPUT.value, predict.OUTPUTS)
    if _ATTENTION.value:
        predict.check_output(_ATTENTION.value, (".png", ".svg"), "--attention")
    predictions = predict.predict(_WORKDIR.value, argv[1:], lines)
    if _ATTENTION.value:
        predict.draw_attention(_ATTENTION.value, predictions)
    for row in predictions.rows:
        print(predict.line(row))
    if _OUTPUT.value:
        predict.write(_OUTPUT.value, predictions.rows)


if __name__ == "__main__":
    cli.run(main)
