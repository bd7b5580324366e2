"""Files of PyTorch's arrays as the start of a run: `config.init_from = "torch:FILE"`, .safetensors or .pth.

They hold a network's `state_dict`; `arch/pretrained/` has the names.
"""

from pathlib import Path

import flax.linen as nn
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import PyTree

from arch.pretrained.table import Table, Variables, tables
from core.errors import UserError, nearest

PREFIX = "torch:"
SAFE = ".safetensors"


def file_of(path: str) -> Path:
    """Returns the file of "torch:FILE"."""
    return Path(path.removeprefix(PREFIX)).expanduser()


def read(path: str, network: nn.Module) -> tuple[dict[str, PyTree], list[str]]:
    """Returns the variables of a network in "torch:FILE", and the names of arrays that have no place in it.

    Raises UserError for a file that cannot be read, and for a network without a table.
    """
    candidates, file = _tables(network), file_of(path)
    arrays = arrays_of(file)
    found, unknown = min((table.read(arrays, network) for table in candidates), key=lambda result: len(result[1]))
    return {name: unflatten_dict(flat, sep="/") for name, flat in found.items()}, unknown


def write(path: str, variables: Variables, network: nn.Module) -> Path:
    """Writes flat variables to the new file of "torch:FILE.safetensors", which PyTorch's `load_state_dict` reads.

    Raises UserError for a file of another name or that exists, and for a parameter without a name.
    """
    table, file = _tables(network)[0], file_of(path)
    if file.suffix != SAFE:
        raise UserError(f"--to={path}: the name of the file ends with {SAFE}")
    if file.exists():
        raise UserError(f"--to: {file} exists")
    arrays = table.write(variables, network)
    file.parent.mkdir(parents=True, exist_ok=True)
    save(arrays, file)
    return file


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a .safetensors file, or by PyTorch of any other. Raises UserError."""
    if not file.is_file():
        raise UserError(f"file {file} does not exist")
    return read_safetensors(file) if file.suffix == SAFE else _unpickled(file)


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a .safetensors file. Raises UserError."""
    try:
        from safetensors.numpy import load_file
    except ImportError:
        raise UserError(f"{file} needs the package safetensors: pip install -e .[hf]") from None
    try:
        return load_file(file)
    except Exception as error:  # the library has its own exceptions beside OSError
        raise UserError(f"{file} cannot be read: {error}") from error


def save(arrays: dict[str, np.ndarray], file: Path) -> None:
    """Writes a .safetensors file. Raises UserError without the package."""
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise UserError("--to needs the package safetensors: pip install -e .[hf]") from None
    # the library writes a transposed array as if it were contiguous
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, file, metadata={"format": "pt"})


def _unpickled(file: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(f"{file} needs PyTorch; where that is installed, convert it: {_conversion(file)}") from None
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's and zipfile's exceptions, and those of PyTorch
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read: {reason}") from error
    if not isinstance(found, dict) or not all(isinstance(x, torch.Tensor) for x in found.values()):
        keys = f", but has {', '.join(map(str, list(found)[:5]))}" if isinstance(found, dict) else ""
        raise UserError(f"{file} is not a state_dict, name -> array{keys}")
    return {name: x.detach().float().numpy() for name, x in found.items()}


def _conversion(file: Path) -> str:
    arrays = f"{{k: v.clone() for k, v in torch.load('{file}', weights_only=True).items()}}"
    code = f"import torch, safetensors.torch as s; s.save_file({arrays}, '{file.with_suffix(SAFE)}')"
    return f'python -c "{code}"'


def _tables(network: nn.Module) -> list[Table]:
    cls = type(network)
    name = f"{cls.__module__.removeprefix('arch.')}.{cls.__name__}"
    if name not in tables():
        raise UserError(f"{name} has no names in PyTorch's files: {nearest(name, tables())}")
    return tables()[name]
