"""Time from the shell to the end of the first step, cold and with the persistent compilation cache.

    python -m benchmarks.startup

Runs `train.py` for one step of each network in a fresh process, first with an empty cache, then with the filled one.
Prints medians and the ratio; "imports" is a process that only runs the imports of train.py.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import jax

ROUNDS = 3
NETWORKS = {
    "dense 64-512-512-10": ("--config.model.name=mlp.MLP",),
    "ResNet-20": ("--config.model.name=resnet.CifarResNet", "--config.model.depth=20"),
}
IMPORTS = "import train, training.main"


def main() -> None:
    print(f"{os.cpu_count()} cores, jax {jax.__version__}, {ROUNDS} rounds, medians of seconds (range)")
    with tempfile.TemporaryDirectory() as folder:
        _seconds(["train.py", *_one_step(folder, "prepare", NETWORKS["ResNet-20"])], folder)  # prepares the data set
        rows = {"imports": [_seconds(["-c", IMPORTS], folder) for _ in range(ROUNDS)]}
        for name, flags in NETWORKS.items():
            for round_ in range(ROUNDS):
                cache = os.path.join(folder, f"cache-{name}-{round_}")
                for state in ("cold", "cached"):
                    command = ["train.py", *_one_step(folder, f"{name}-{round_}-{state}", flags)]
                    rows.setdefault(f"{name}, {state}", []).append(_seconds(command, cache))
    for name, times in rows.items():
        print(f"{name:28s} {statistics.median(times):6.1f} ({min(times):.1f}-{max(times):.1f})")
    for name in NETWORKS:
        ratios = [cached / cold for cold, cached in zip(rows[f"{name}, cold"], rows[f"{name}, cached"], strict=True)]
        print(f"{name}: cached / cold = {statistics.median(ratios):.2f}")


def _one_step(folder: str, run: str, flags: tuple[str, ...]) -> list[str]:
    """Returns flags for one step on digits without periodic evaluation."""
    return [
        "--config=benchmarks/startup_config.py",
        f"--workdir={folder}/{run}",
        f"--data_dir={folder}/tfds",
        *flags,
    ]


def _seconds(arguments: list[str], cache: str) -> float:
    before = time.monotonic()
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - before


if __name__ == "__main__":
    main()
