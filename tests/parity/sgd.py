"""Ten steps of stochastic gradient descent in PyTorch, with which ours are compared."""

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

STEPS = 10


def losses_of(module: torch.nn.Module, loss_of: Callable[[], torch.Tensor], rate: float) -> list[float]:
    """Returns the loss before each of STEPS steps of a module, whose state is restored at the end."""
    before = {name: x.clone() for name, x in module.state_dict().items()}
    optimizer, losses = torch.optim.SGD(module.parameters(), rate), []
    for _ in range(STEPS):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    module.load_state_dict(before)
    return losses
