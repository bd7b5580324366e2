"""Train a config: python train.py --config=configs/digits.py --workdir=runs/digits

The same command continues a run that was stopped. Any key can be set: --config.optimizer.learning_rate=3e-4.
Repeat the final evaluation: python train.py --workdir=runs/digits --eval_only
"""

import shlex
import sys

from absl import flags
from ml_collections import ConfigDict

from core import cli
from core.errors import UserError
from training.config import validate
from training.overrides import assignments, override, recipe

_CONFIG = flags.DEFINE_string("config", None, "Recipe, FILE.py or FILE.py:ARGUMENT.")
_SET = flags.DEFINE_multi_string("set", [], "KEY=VALUE, a key of the config; the same as --config.KEY=VALUE.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; an existing run is continued.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS data sets (default: TFDS's own).")
_PROFILE = flags.DEFINE_bool("profile", False, "Show where the time goes; the same as --set=log.profile=5.")
_EVAL_ONLY = flags.DEFINE_bool("eval_only", False, "Only repeat the final evaluation of --workdir.")


def main(argv):
    if not _WORKDIR.value:
        raise UserError("--workdir is missing: name the folder of the run, such as runs/digits")
    if argv[1:]:
        raise UserError(f"unexpected argument {argv[1]!r}: write --NAME=VALUE")
    config = with_flags(recipe(_CONFIG.value)) if _CONFIG.value else None

    from reporting import report  # imports jax: after the flags, so that a typo in them or in a key is reported at once
    from training import main as training
    from training.workdir import Workdir

    workdir = Workdir(_WORKDIR.value)
    config = config or with_flags(workdir.config())
    if _EVAL_ONLY.value:
        workdir.check(config)
        training.evaluate_only(_WORKDIR.value, _DATA_DIR.value)
        return
    command = f"python {shlex.join(sys.argv)}"
    finished = training.train(config, _WORKDIR.value, _DATA_DIR.value, command)
    if training.is_first_host():
        report.write(finished, command)


def with_flags(config: ConfigDict) -> ConfigDict:
    """Returns the config with the command line's overrides, and prints the keys that these drop. Raises UserError."""
    config, note = override(config, assignments([*["log.profile=5"] * _PROFILE.value, *_SET.value]))
    if note:
        print(f"config: {note}", flush=True)
    return validate(config)


if __name__ == "__main__":
    cli.run(main)
