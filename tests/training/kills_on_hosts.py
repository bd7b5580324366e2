"""One of two hosts that train a run and continue it from each state that a kill can leave; started by `test_kills`."""

import contextlib
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental import multihost_utils

from tests.training.killed_runs import compile_once, outcome, small_config
from tests.training.kills import Recorder
from training import main, parallel


def run(table: Path, folder: Path) -> None:
    config = small_config(table)
    config.parallel.hosts = 2
    parallel.connect(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "connect", lambda hosts: None)  # possible once in a process
        compile_once({}, patch)
        records = Recorder(folder / "run", folder / "states") if jax.process_index() == 0 else contextlib.nullcontext()
        with records:
            main.train(config, str(folder / "run"), None)
            multihost_utils.sync_global_devices("recorded")
        states = sorted((folder / "states").iterdir())
        multihost_utils.sync_global_devices("listed")
        expected = outcome(folder / "run")
        for state in states:
            main.train(config, str(state), None)
            multihost_utils.sync_global_devices(str(state))
            assert outcome(state) == expected, state
        print(len(states), "kills")


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:]))
