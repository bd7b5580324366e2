"""Slips, signals and shortages end with one line; a process has its workdir for itself."""

import errno
import io
import os
import signal
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import tabular, translation
from core import cli, names
from core.errors import Stopped, UserError, printable
from data.sources import arrays
from inference.predict import _cell
from tests.training.commands import ROOT
from training import build, memory, parallel
from training import config as config_lib
from training.display import Display
from training.run import build_run
from training.stop import Stop
from training.workdir import locked


def test_one_process_per_workdir(tmp_path):
    for _ in range(2):  # the first leaves no lock behind
        with locked(tmp_path / "run"), pytest.raises(UserError, match="another process trains this run"):
            locked(tmp_path / "run").__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_answered_before_and_after_the_last_save(number):
    with Stop() as stop:
        assert not stop.after(1)
        signal.raise_signal(number)
        assert stop.after(2) and stop.requested == signal.Signals(number).name
        with pytest.raises(Stopped, match="the same command evaluates"):
            stop.all_saved(3)
    with Stop() as stop:
        stop.all_saved(3)
        with pytest.raises(Stopped, match="the same command evaluates"):
            signal.raise_signal(number)
        signal.raise_signal(number)  # the first one is being answered


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), 2, "runs/a: No space left on device: free space"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "runs/a"), 2, "runs/a: File name too long"),
        (RuntimeError("Symlink loop from 'runs/a'"), 2, "Symlink loop from 'runs/a'"),
        (RuntimeError("write failed: No space left on device [tensorstore]"), 2, "free space"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), 2, "lower config.train.batch_size"),
        (MemoryError("Unable to allocate 9 TiB"), 2, "out of memory: Unable to allocate 9 TiB"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), 2, "runs/a: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (UserError("class \x1b[31mred"), 2, "class \N{REPLACEMENT CHARACTER}[31mred"),
    ],
)
def test_what_ends_with_one_line(error, code, words, capsys):
    def main(argv):
        raise error

    try:
        assert cli.guarded(main, []) == code
    except SystemExit as end:
        assert end.code == code
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_writes_that_end_after_a_failed_one_print_nothing():
    reported = []
    for error in (RuntimeError("Event loop is closed"), RuntimeError("another")):
        cli._report_unraisable(lambda found: reported.append(found.exc_value), SimpleNamespace(exc_value=error))
    assert [str(error) for error in reported] == ["another"]


PRESS = "signal.raise_signal(signal.SIGINT)"
CALLBACK = f"gc.callbacks.append(lambda *_: (gc.callbacks.clear(), {PRESS})); gc.collect()"  # Python drops its errors


@pytest.mark.parametrize("pressed", [PRESS, CALLBACK])
def test_ctrl_c_while_libraries_are_loaded_is_one_line(pressed):
    script = f"import gc, signal, time; from core import cli; {pressed}; time.sleep(9); print('went on')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", f"{cli.INTERRUPTION}\n")


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(FileNotFoundError):
        cli.guarded(lambda argv: os.stat("/nowhere"), [])


def test_a_reader_that_ends_early():
    script = "from core import cli; cli.run(lambda argv: [print('x' * 99) for _ in range(9999)])"
    command = f'{sys.executable} -c "{script}" | head -n 1; exit ${{PIPESTATUS[0]}}'
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == cli.BROKEN_PIPE and not done.stderr and done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer.frozen", (1,), "optimizer.frozen must be"),
        ("optimizer.lr_multipliers", ("a",), "optimizer.lr_multipliers must be"),
        ("optimizer.lr_multipliers", ((".*", "x"),), "optimizer.lr_multipliers must be"),
        ("augment.ops", (1,), "augment.ops must be"),
        ("log.writers", (1,), "log.writers must be"),
        ("train.steps", 10**12, "train.steps must be at most"),
        ("train.epochs", 1e300, "train.epochs must be at most"),
        ("train.epochs", float("inf"), "train.epochs must be finite"),
        ("optimizer.learning_rate", float("inf"), "optimizer.learning_rate must be finite"),
        ("optimizer.lr_multipliers", ((".*", -1.0),), "optimizer.lr_multipliers: '.*' must have"),
        ("checkpoint.keep", 10**21, "checkpoint.keep must be at most"),
        ("data.workers", 10**6, "data.workers must be at most 256"),
        ("seed", 2**70, "seed must be from 0"),
    ],
)
def test_values_out_of_range(key, value, words):
    config = config_lib.default()
    config.train.steps = int(key != "train.epochs")
    group, _, name = key.rpartition(".")
    (config[group] if group else config)[name] = value
    with pytest.raises(UserError, match=f"^config.{words}"):
        config_lib.validate(config)


def test_a_stored_config_of_another_kind():
    for text in ("[1, 2]", "null", "[" * 100_000):
        with pytest.raises(ValueError, match=r"not an object|nested too deeply"):
            config_lib.from_json(text)


@pytest.mark.parametrize("value", [7.0, -1.0, float("nan")])
def test_shares_are_from_0_to_1(value):
    for name in ("dropout", "drop_path", "label_smoothing"):
        with pytest.raises(UserError, match="must be from 0 to 1"):
            names.convert(value, float, f"config.model.{name}")
    assert names.convert(0, float, "config.model.dropout") == 0.0


@pytest.mark.parametrize("name", ["jnp.load", "jnp.load(allow_pickle=True)", "jnp.save('x')", "jnp.fromfile"])
def test_no_function_that_works_on_files(name):
    with pytest.raises(UserError, match=r"does not exist(?!.*did you mean 'jnp.(load|save|fromfile)')"):
        names.resolve(name, "arch", "config.model.activation")


@pytest.mark.parametrize("limit", ["abc", "0", "-1"])
def test_numbers_of_cores(limit, monkeypatch):
    monkeypatch.setenv("NPROC", limit)
    with pytest.raises(UserError, match="NPROC must be"):
        parallel.cores()


def test_an_archive_larger_than_the_memory(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros((100, 8, 8)), label=np.zeros(100, int))
    monkeypatch.setattr(arrays, "free_memory", lambda: 10_000.0)
    with pytest.raises(UserError, match=r"a\.npz holds .* GB, but .* of memory are free"):
        arrays.Npz(str(tmp_path / "a.npz"), config_lib.default().data)
    monkeypatch.undo()
    header = io.BytesIO()
    claimed = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 10**6)}
    np.lib.format.write_array_header_1_0(header, claimed)
    for content in (b"no array", header.getvalue() + bytes(99)):
        with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
            archive.writestr("label.npy", content)
        with pytest.raises(UserError, match=r"is not an \.npz file"):
            arrays.Npz(str(tmp_path / "b.npz"), config_lib.default().data)


def test_labels_that_are_no_classes(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((20, 8, 8), np.uint8), label=np.linspace(0, 1, 20))
    config = config_lib.default()
    config.data.name, config.data.splits.test, config.train.steps = f"npz:{tmp_path / 'a.npz'}", "", 1
    config.train.batch_size, config.model.widths = 8, (4,)
    with pytest.raises(UserError, match=r"npz:.* has no classes to predict"):
        build_run(config, None)


def test_a_number_of_steps_is_no_share():
    """Fields of a user's own module may have such a word in their names."""
    assert names.convert(10, int, "config.model.drop_after") == 10
    assert names.convert(1, float, "config.model.dropout") == 1.0
    with pytest.raises(UserError, match=r"config.model.dropout must be from 0 to 1, not 7"):
        names.convert(7, float | None, "config.model.dropout")


def test_text_for_terminals_and_spreadsheets():
    assert printable("a\u2028«\u00a0\u200d") == "a\u2028«\u00a0\u200d", "texts of any language stay"
    assert printable("\x9b\ud800\uffff") == 3 * "\N{REPLACEMENT CHARACTER}"
    assert printable("a\tb\x1b[2Jü\n") == "a\tb\N{REPLACEMENT CHARACTER}[2Jü\N{REPLACEMENT CHARACTER}"
    cells = {"=1+1": "'=1+1", "@x": "'@x", "-cat": "'-cat", "-1.5": "-1.5", "cat": "cat", 2.0: 2.0}
    assert [_cell(value) for value in cells] == list(cells.values())


def test_a_mistake_in_a_module_is_shown_with_its_place(tmp_path, monkeypatch):
    def raises(error):
        try:
            exec(
                compile("def f():\n    raise error\nf()", str(build.CHECKOUT / "arch" / "mine.py"), "exec"),
                {"error": error},
            )
        except Exception as caught:
            return caught

    shape, bug = raises(ValueError("another shape\nthan this")), raises(NameError("name 'jmp' is not defined"))
    assert build.first_line(shape) == "another shape (arch/mine.py, line 2)" and not build.trace(shape)
    assert build.first_line(bug) == "name 'jmp' is not defined (arch/mine.py, line 2)"
    lines = build.trace(bug).splitlines()
    assert "mine.py" in lines[1] and lines[-1] == "NameError: name 'jmp' is not defined" and len(lines) <= 6


def test_texts_of_a_data_set_do_not_control_the_terminal(capsys):
    display = Display()
    display.say("columns: \x1b[2Ja\nb")
    display.results({"test": {"[/]x": 1.0}})
    out = capsys.readouterr().out
    assert "\x1b" not in out and "columns: \N{REPLACEMENT CHARACTER}[2Ja\nb\n" in out and "[/]x" in out


def test_sizes_that_do_not_fit(tmp_path, monkeypatch):
    table = "a,b,y\n" + "".join(f"{i},{i % 7},{'pq'[i % 2]}\n" for i in range(60))
    (tmp_path / "t.csv").write_text(table)

    def run(width, batch_size, evaluated=0):
        config = tabular.get_config("class")
        config.eval.batch_size = evaluated
        config.data.name, config.data.target, config.log.writers = f"csv:{tmp_path / 't.csv'}", "y", ()
        config.model = {"name": "mlp.MLP", "widths": (width, 8)}
        config.train.batch_size = batch_size
        return build_run(config, None)

    limit = [16e9]
    monkeypatch.setattr(memory, "limit_of_device", lambda: (limit[0], "cpu"))
    with pytest.raises(UserError, match=r"parameters .* GB.* but cpu has 16 GB: lower the sizes in config.model"):
        memory.check(run(10**9, 8))
    with pytest.raises(UserError, match=r"batch .* GB.* lower config.train.batch_size"):
        memory.check(run(8, 2**30))
    small = run(512, 8 * 1024)
    memory.check(small)
    known = sum(memory.sizes(small).values())
    limit[0] = 2 * known  # parameters fit, the activations of 1024 examples do not
    with pytest.raises(UserError, match=r"a step .* activations .* lower config.train.batch_size"):
        memory.check(small)
    evaluated = run(512, 8, 8 * 1024)  # what training needs fits, what evaluation needs does not
    with pytest.raises(UserError, match=r"an evaluation .* activations .* lower config.eval.batch_size"):
        memory.check(evaluated)


def test_generation_that_does_not_fit(tmp_path, monkeypatch):
    """10 more tokens are 10 keys and 10 values, of 16 float32 each, for every beam of the two examples of a device."""
    (tmp_path / "t.csv").write_text("source,target\n" + "".join(f"{'ab' * (i % 4 + 1)},ba\n" for i in range(60)))
    config = translation.get_config()
    config.data.name, config.data.splits.test, config.log.writers = f"csv:{tmp_path / 't.csv'}", "", ()
    config.data.splits.train, config.data.splits.validation = "train[:40]", "train[40:]"
    config.data.preprocess = ("tokenize(('source', 'target'), characters())",)
    config.model = {"name": "transformer.Transformer", "depth": 1, "width": 16, "heads": 2, "mlp_width": 16}
    config.train.batch_size = config.eval.batch_size = 2 * jax.device_count()
    config.task.beams = 3

    def cache(length):
        config.task.max_length = length
        run = build_run(config, None)
        memory.check(run)
        return memory._cache(run)

    monkeypatch.setattr(memory, "limit_of_device", lambda: (16e9, "cpu"))
    assert cache(30) - cache(20) == 10 * 2 * 3 * 2 * 16 * 4
    with pytest.raises(UserError, match=r"an evaluation .*cache of generation .* lower .*config.task.max_length"):
        cache(10**8)


def test_a_prediction_that_does_not_fit(monkeypatch):
    weights, inputs = np.ones((64, 64), np.float32), np.ones((32, 64), np.float32)
    limit = [1e9]
    monkeypatch.setattr(memory, "limit_of_device", lambda: (limit[0], "cpu"))

    def compiled():
        return memory.compiled(jax.jit(lambda w, x: x[:, None] + w), weights, inputs, advice="give fewer files")

    np.testing.assert_allclose(compiled()(weights, inputs), np.full((32, 64, 64), 2.0))
    for size, words in [
        (weights.nbytes + inputs.nbytes + 100, "activations .* give fewer files"),
        (weights.nbytes, "parameters .* inputs .* use a larger device"),
    ]:
        limit[0] = float(size)
        with pytest.raises(UserError, match=f"a prediction needs .*{words}"):
            compiled()
