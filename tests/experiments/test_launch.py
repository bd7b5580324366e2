"""Processes of cells: locks, cores and GPUs, submitit, what they print."""

import os
import time

import pytest

from core.errors import UserError
from experiments.engine import cells, launch
from experiments.engine.cells import CellFiles
from experiments.engine.experiment import Cell
from tests.experiments.runs import locked, wait_until

pytestmark = pytest.mark.slow


def test_a_lock_keeps_a_second_process_out(tmp_path):
    place = CellFiles(tmp_path / "a/0")
    first = launch.Command(["sleep", "60"], place, {}).start(wait=False)
    try:
        with pytest.raises(launch.Busy):
            launch.Command(["true"], place, {}).start(wait=False)
    finally:
        first.kill()
        first.wait()
    assert launch.Command(["true"], place, {}).start(wait=False).wait() == 0


@pytest.mark.parametrize("member", [Cell("a", 1), Cell("a", 0, (("optimizer.learning_rate", 0.1),))])
def test_a_group_locks_each_of_its_cells_and_tells_each_what_it_prints(member, tmp_path):
    group = cells.together(tmp_path, [Cell("a", 0), member])
    prints = "echo broken >&2; exec sleep 60"
    first = launch.Command(["sh", "-c", prints], group, {}).start(wait=False)
    try:
        for place in group.members:
            with pytest.raises(launch.Busy):
                launch.Command(["true"], place, {}).start(wait=False)
        wait_until(lambda: all(place.last_error() == "broken" for place in group.members), first)
    finally:
        first.kill()
        first.wait()
    alone = launch.Command(["sh", "-c", "echo alone >&2; exec sleep 60"], group.members[1], {}).start(wait=False)
    try:
        with pytest.raises(launch.Busy):
            launch.Command(["true"], group, {}).start(wait=False)
        assert not locked(group.members[0])  # of what could not be had nothing is kept
    finally:
        wait_until(lambda: group.members[1].last_error(), alone)
        alone.kill()
        alone.wait()
    assert group.members[0].last_error() == "broken" and group.members[1].last_error() == "alone"


def test_workers_share_cores_and_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    local = launch.Local(0)
    cells = [CellFiles(tmp_path / str(i)) for i in range(2)]
    jobs = [local.start(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES $NPROC"], files) for files in cells]
    assert local.free == []
    for job in jobs:
        job.process.wait()
        local.ended(job)
    cores = max(1, os.cpu_count() // 2)
    assert [files.beside("out").read_text() for files in cells] == [f"2 {cores}\n", f"3 {cores}\n"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert launch.visible_gpus() == [] and sorted(local.free) == [0, 1]


def test_jobs_of_submitit(tmp_path):
    pytest.importorskip("submitit")
    launcher = launch.Submitted(2, tmp_path, {"timeout_min": 2}, cluster="local")
    places = [CellFiles(tmp_path / name) for name in ("good", "bad")]
    jobs = [
        launcher.start(["sh", "-c", f"echo here; exit {code}"], place)
        for code, place in zip((0, 3), places, strict=True)
    ]
    assert not launcher.free
    deadline = time.monotonic() + 120
    while any(job.poll() is None for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [job.poll() for job in jobs] == [0, 3] and places[0].beside("out").read_text() == "here\n"


def test_without_slurm_its_launcher_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch is not on"):
        launch.Submitted(0, tmp_path, {})


def test_progress_is_that_of_the_status(tmp_path):
    files = CellFiles(tmp_path / "0")
    assert files.progress() == 0 and files.last_error() == ""
    files.workdir.mkdir()
    (files.workdir / "status.json").write_text('{"state": "training", "step": 20, "steps": 40}')
    assert files.progress() == 0.5
