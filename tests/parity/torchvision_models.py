"""Imports torchvision, or skips the module that imports this one."""

import pytest

torch = pytest.importorskip("torch")

_register = torch.library.register_fake


def _register_known(name, *args, **options):
    """As `torch.library.register_fake`, but torchvision's own operators may be missing: its networks need none."""
    return (lambda function: function) if name.startswith("torchvision::") else _register(name, *args, **options)


torch.library.register_fake = _register_known
models = pytest.importorskip("torchvision").models
torch.library.register_fake = _register
