"""Train a config: python train.py --config=configs/digits.py --workdir=runs/digits

The same command goes on where it was stopped. Any key can be set: --config.optimizer.learning_rate=3e-4.
Repeat the final evaluation: python train.py --workdir=runs/digits --eval_only
"""

import shlex
import sys

from absl import flags
from ml_collections import config_flags

from core import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, FILE.py or FILE.py:ARGUMENT.", lock_config=False, accept_new_attributes=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; one that was begun is continued.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS data sets are or are prepared (default: TFDS's own).")
_EVAL_ONLY = flags.DEFINE_bool("eval_only", False, "Only repeat the final evaluation of --workdir.")


def main(argv):
    from reporting import report  # after the flags: a typo in them must not wait for these imports
    from training import main as training
    from training.workdir import Workdir

    if not _WORKDIR.value:
        raise cli.UserError("--workdir is missing: name the folder of the run, such as runs/digits")
    if argv[1:]:
        raise cli.UserError(f"{argv[1]!r} is no flag: write --NAME=VALUE")
    if _EVAL_ONLY.value:
        training.evaluate_only(_WORKDIR.value, _DATA_DIR.value)
        return
    config = _CONFIG.value if _CONFIG.value is not None else Workdir(_WORKDIR.value).config()
    command = f"python {shlex.join(sys.argv)}"
    finished = training.train(config, _WORKDIR.value, _DATA_DIR.value, command)
    if training.is_first_host():
        report.write(finished, command)


if __name__ == "__main__":
    cli.run(main)
