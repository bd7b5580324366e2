"""Start and end of commands: a user's mistake is one line and exit code 2; SIGTERM gives 143, divergence 1."""

import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from core.errors import Diverged, Stopped, UserError, nearest, printable

USER_ERROR, DIVERGED = 2, 1
INTERRUPTED, BROKEN_PIPE = 128 + signal.SIGINT, 128 + signal.SIGPIPE
INTERRUPTION = "interrupted; the same command starts again, or continues"
FULL_DISK = os.strerror(errno.ENOSPC)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
REFUSED += (errno.ENAMETOOLONG, errno.ELOOP)


def run(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and calls `main(argv)`; does not return."""
    set_environment()
    _quiet_libraries()
    app.run(lambda argv: sys.exit(guarded(main, argv)), flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(_with_set(argv))
    except flags.UnrecognizedFlagError as error:
        known = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
        _fail(f"unknown flag --{error.flagname}: {nearest(error.flagname.partition('.')[0], known)}")
    except flags.Error as error:
        _fail(str(error))
    except SystemExit:  # absl ends --help with 1
        sys.exit(0)


def _with_set(argv: list[str]) -> list[str]:
    """Returns a command line with each `--config.KEY=VALUE` written as `--set=KEY=VALUE`."""
    result, rest = [], iter(argv)
    for argument in rest:
        key, given, value = argument.partition("=")
        if key.startswith(("--config.", "-config.")):
            argument = f"--set={key.partition('.')[2]}={value if given else next(rest, '')}"
        result.append(argument)
    return result


def guarded(main: Callable, *arguments: Any) -> int:
    """Calls a command's function and returns its exit code; a user's mistake ends the program with one line."""
    try:
        main(*arguments)
    except UserError as error:
        print("".join(printable(line) + "\n" for line in error.trace.splitlines()), end="", file=sys.stderr)
        _fail(str(error))
    except Stopped as error:
        print(error, flush=True)
        return Stopped.EXIT_CODE
    except Diverged as error:
        print(error, file=sys.stderr, flush=True)
        return DIVERGED
    except MemoryError as error:
        _fail(f"out of memory: {error or 'lower the sizes in the config'}")
    except KeyboardInterrupt:
        print(INTERRUPTION, file=sys.stderr, flush=True)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has ended, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes out the rest at the end
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in FULL + REFUSED:
            raise
        then = ": free space; the same command continues" if error.errno in FULL else ""
        _fail(f"{error.filename or 'the disk'}: {error.strerror}{then}")
    except Exception as error:
        reason = _shortage(error)
        if not reason:
            raise
        _fail(reason)
    return 0


def _shortage(error: Exception) -> str:
    """Returns the line for an error of XLA or Orbax that means a full device or disk, "" for any other error."""
    text = str(error)
    if isinstance(error, RuntimeError) and text.startswith("Symlink loop"):  # pathlib before Python 3.13
        return text
    if FULL_DISK in text:
        return f"{FULL_DISK}: free space; the same command continues"
    if "RESOURCE_EXHAUSTED" in text:
        advice = "lower config.train.batch_size, or give predict.py fewer inputs"
        return f"the device is out of memory: {advice} ({' '.join(text.split())[:200]})"
    return ""


def _fail(line: str) -> None:
    print(f"error: {printable(' '.join(line.split()))}", file=sys.stderr, flush=True)
    sys.exit(USER_ERROR)


def set_environment() -> None:
    """Sets what libraries read as they are loaded, and restarts the program if glibc is to read it.

    Huge pages: XLA on a CPU allocates its work space at every step; a ResNet-20 then spends a quarter of its time on
    page faults. One thread for OpenBLAS: XLA runs the QR decompositions of orthogonal initialisers side by side, and
    the threads of each one wait for those of the others where another process has a core. On an idle machine the time
    is the same.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    tunables, wanted = os.environ.get("GLIBC_TUNABLES", ""), "glibc.malloc.hugetlb"
    if sys.platform == "linux" and wanted not in tunables:
        os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, f"{wanted}=1")))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _report_uncaught(report: Callable, kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Reports an error that ends the program; of Ctrl-C while the libraries are loaded, without a traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTION, file=sys.stderr, flush=True)
    else:
        report(kind, error, trace)


def _report_unraisable(report: Callable[[Any], None], found: Any) -> None:
    """Reports an error that no code can catch, with two exceptions.

    Python drops a Ctrl-C that arrives in a callback of its garbage collector, such as jax has: it is sent again. Errors
    of Orbax's array writes that end after one of them has failed, as on a full disk, are told by one line already.
    """
    if isinstance(found.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, signal.raise_signal, (signal.SIGINT,)).start()
    elif str(found.exc_value) != "Event loop is closed":
        report(found)


def _quiet_libraries() -> None:
    """Caches compiled programs on disk, which halves a second start, and hides libraries' messages: Orbax logs the
    traceback of each of its threads before it raises the error.
    """
    logging.set_verbosity(logging.FATAL)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onestep" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


# Here, not in `run`, because a command loads libraries for seconds before it calls that.
sys.excepthook = functools.partial(_report_uncaught, sys.excepthook)
sys.unraisablehook = functools.partial(_report_unraisable, sys.unraisablehook)
