"""The share of the sounds drawn by one run that another run, a classifier, hears as the class they were drawn for:
    python -m inference.recognition --generator=runs/wavenet --recogniser=runs/waves --count=20

The sounds are written as WAV files and read again, as a person would hear them.
"""

import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from core import cli
from core.errors import UserError
from inference.predict import load, predict, write

_GENERATOR = flags.DEFINE_string("generator", None, "Folder of the run that draws sounds.")
_RECOGNISER = flags.DEFINE_string("recogniser", None, "Folder of the run that classifies sounds.")
_COUNT = flags.DEFINE_integer("count", 10, "Sounds per class.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed for sampling.", lower_bound=0, upper_bound=2**32 - 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Divides the logits: lower is more conservative.")


def main(argv):
    if argv[1:] or not (_GENERATOR.value and _RECOGNISER.value):
        raise UserError(
            "write --generator=RUN --recogniser=RUN, and no other argument but --count, --seed, --temperature"
        )
    shares = recognised(_GENERATOR.value, _RECOGNISER.value, _COUNT.value, _SEED.value, temperature=_TEMPERATURE.value)
    for name, share in shares.items():
        print(f"{name}\t{share:.1%}")
    print(f"all\t{sum(shares.values()) / len(shares):.1%}")


def recognised(generator: str, recogniser: str, count: int, seed: int = 0, **choice: Any) -> dict[str, float]:
    """Returns the share of `count` sounds per class that the recogniser hears as that class, by class.

    Args:
        generator, recogniser: workdirs of a run that draws sounds given a class, and of one that classifies sounds.
        seed, choice: as in `inference.predict.predict`.

    Raises UserError for runs of other kinds, and for a class that the recogniser does not know.
    """
    speaker, listener = load(generator), load(recogniser)
    names = speaker.info.keys[speaker.task.inputs[0]].classes
    heard = listener.info.keys[listener.task.target].classes
    if not names or not speaker.task.rate:
        raise UserError(f"--generator {generator}: the run does not draw sounds given a class")
    if missing := [name for name in names if name not in heard]:
        raise UserError(f"--recogniser {recogniser} does not know the class {missing[0]!r} of {generator}")
    drawn = predict(generator, [], [name for name in names for _ in range(count)], seed, **choice)
    with tempfile.TemporaryDirectory() as folder:
        write(str(Path(folder) / "sound.wav"), drawn)
        files = [str(Path(folder) / f"sound-{i + 1}.wav") for i in range(len(drawn.rows))]
        rows = predict(recogniser, files).rows
    pairs = [(said["input"], row["prediction"]) for said, row in zip(drawn.rows, rows, strict=True)]
    return {name: sum(pair == (name, name) for pair in pairs) / count for name in names}


if __name__ == "__main__":
    cli.run(main)
