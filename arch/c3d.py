"""C3D, 3x3x3 convolutions in the manner of VGG (Tran et al. 2015, arXiv 1412.0767)."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv3d import Conv3D

# Shapes: batch; time, height, width, channels (of the input); classes.


class C3D(nn.Module):
    """Groups of convolutions, a max-pooling after each group, and two hidden layers (sec. 3.3, fig. 3).

    The first pooling keeps the time, the others halve time, height and width; a rest at the end of an axis is a window,
    too. The published input is 16 frames of 112 x 112, to which the first hidden layer's kernel fits.

    Attributes:
        groups: channels of the convolutions in each group.
        kernel_depth: frames that a kernel reads: 3 is best among 1, 3, 5 and 7 (sec. 3.2, fig. 2).
        mlp_widths: of the hidden layers.
        dropout: rate after each hidden layer.
    """

    num_classes: int = 101
    groups: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    kernel_depth: int = 3
    mlp_widths: tuple[int, ...] = (4096, 4096)
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.he_normal()
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "groups": ((4,), (5, 6)), "mlp_widths": (7, 8)},
        "UCF101": {},
        "Sports-1M": {"num_classes": 487},
    }
    # of the network of the paper with 101 classes, 27,655,936 of them in its convolutions
    PUBLISHED: ClassVar[dict[str, str | int]] = {"UCF101": 78_409_573}
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"time": 16, "height": 112, "width": 112}

    @nn.compact
    def __call__(
        self, video: Float[Array, "batch time height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        x, init = video, {"kernel_init": self.kernel_init, "dtype": self.dtype}
        for number, widths in enumerate(self.groups, start=1):
            for i, width in enumerate(widths, start=1):
                kernel = (self.kernel_depth, 3, 3)
                x = self.activation(Conv3D(width, kernel, name=f"conv{number}_{i}", **init)(x))
            window = (1 if number == 1 else 2, 2, 2)
            x = nn.max_pool(x, window, window, "SAME")
            self.sow("intermediates", f"group{number}", x)
        x = x.reshape(len(x), -1)
        for i, width in enumerate(self.mlp_widths, start=1):
            x = self.activation(nn.Dense(width, name=f"hidden{i}", **init)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)
