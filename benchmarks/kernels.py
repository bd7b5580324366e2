"""Number of kernels that a GPU launches per time step of a recurrent layer's gradient, against flax's own scan.

    python -m benchmarks.kernels

Needs the extra `cuda`, but no GPU: XLA compiles for a described device. The kernels' run time needs the device.
"""

import os
import re
import sys

import flax.linen as nn
import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from arch.layers.recurrent import GRU, LSTM
from arch.rnn import RecurrentClassifier
from benchmarks.step import RECURRENT, FlaxRecurrent

# NVIDIA H100 SXM5, compute capability 9.0.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84978434048 clock_rate_ghz: 1.98
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
WITHOUT_DEVICE = {"xla_gpu_autotune_level": 0}  # candidates of a matrix product cannot be timed without a device
NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while"}


def kernels_in_loops(hlo: str) -> int:
    """Returns the number of kernels in the bodies of all loops of a compiled program."""
    count = 0
    for body in re.findall(r" while\(.*body=(%[\w.\-]+)", hlo):
        text = hlo[hlo.index(f"\n{body} (") :]
        operations = re.findall(r"^  .* = .*?[\])}] ([a-z\-]+)\(", text[: text.index("\n}")], re.MULTILINE)
        count += sum(operation not in NO_KERNEL for operation in operations)
    return count


def compile_gradient(model: nn.Module, batch: int, steps: int, units: int, device) -> jax.stages.Compiled:
    """Compiles the gradient of the parameters for a device that need not exist."""

    def there(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=SingleDeviceSharding(device))

    x = there(jax.ShapeDtypeStruct((batch, steps, units), "float32"))
    variables = jax.tree.map(there, jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x))
    gradient = jax.grad(lambda variables, x: (model.apply(variables, x, train=True) ** 2).sum())
    return jax.jit(gradient).lower(variables, x).compile(WITHOUT_DEVICE)


def main() -> int:
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # the check of driver and libraries needs the device
    try:
        topology = topologies.get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1")
    except NotImplementedError:
        print("benchmarks.kernels compiles for a GPU: pip install -e '.[cuda]'", file=sys.stderr)
        return 2
    device = topology.devices[0]
    print(f"jax {jax.__version__} for {device.device_kind}; ours, flax's")
    print(f"{'gradient':24} {'kernels per time step':>20} {'work space, MB':>18}")
    pairs = {"LSTM": (LSTM, nn.OptimizedLSTMCell), "GRU": (GRU, nn.GRUCell)}
    for name, (ours, theirs) in pairs.items():
        for batch, steps, units in RECURRENT:
            models = RecurrentClassifier(cell=ours, widths=(units,)), FlaxRecurrent(units, theirs)
            compiled = [compile_gradient(model, batch, steps, units, device) for model in models]
            kernels = ", ".join(str(kernels_in_loops(program.as_text())) for program in compiled)
            space = ", ".join(f"{program.memory_analysis().temp_size_in_bytes / 1e6:.0f}" for program in compiled)
            print(f"{name} {units}, b {batch}, t {steps:<8} {kernels:>18} {space:>18}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
