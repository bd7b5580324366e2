"""A student beside its teacher, for distillation (Hinton et al. 2015, arXiv 1503.02531)."""

from typing import Any, ClassVar, TypedDict

import flax.linen as nn
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float, Int, PyTree

from arch.gpt import GPT
from arch.layers.decoder import Cache

# Shapes: batch; length (in tokens); positions: one or more axes, or none; classes


class Outputs(TypedDict):
    """The logits of both networks."""

    student: Float[Array, "batch *positions classes"]
    teacher: Float[Array, "batch *positions classes"]


class Distilled(nn.Module):
    """The outputs of a student and of a teacher that does not train; `tasks.distillation` has the loss.

    `config.init_from` gives the weights of the teacher. Predictions, generated sequences and exports are those of the
    student.

    Attributes:
        student, teacher: two networks with the same inputs, such as "gpt.GPT(depth=2)"; the teacher is the one that
            was trained.
        num_classes, vocab_size, bos_id, dtype: of both networks, as far as they have these fields; None: their own.
    """

    student: nn.Module
    teacher: nn.Module
    num_classes: int | None = None
    vocab_size: int | None = None
    bos_id: int | None = None
    dtype: DTypeLike | None = None

    frozen: ClassVar[tuple[str, ...]] = ("teacher/.*",)
    init_at: ClassVar[str] = "teacher"

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {
            "student": GPT(**GPT.VARIANTS["test"]),
            "teacher": GPT(**GPT.VARIANTS["modern test"]),
            "num_classes": 11,
            "vocab_size": 11,
        }
    }

    def __post_init__(self):
        given = {
            "num_classes": self.num_classes,
            "vocab_size": self.vocab_size,
            "bos_id": self.bos_id,
            "dtype": self.dtype,
        }
        for name in ("student", "teacher"):
            network = getattr(self, name)
            if isinstance(network, nn.Module) and network.scope is None:
                own = {field: x for field, x in given.items() if x is not None and hasattr(network, field)}
                object.__setattr__(self, name, network.clone(**own))
        super().__post_init__()

    @property
    def context(self) -> int | None:
        return self.student.context

    def __call__(self, *inputs: Any, train: bool) -> Outputs:
        """Returns the outputs of both networks, without a gradient of the teacher."""
        teacher = lax.stop_gradient(self.teacher(*inputs, train=False))
        return {"student": self.student(*inputs, train=train), "teacher": teacher}

    def start(self, *conditions: Any, length: int) -> tuple[Int[Array, " batch"], Cache]:
        """As the student's (`layers.decoder`)."""
        return self.student.start(*conditions, length=length)

    def decode(self, tokens: Int[Array, "batch length"], cache: Cache) -> tuple[Array, Cache]:
        """As the student's (`layers.decoder`)."""
        return self.student.decode(tokens, cache)

    def deployed(self, variables: dict[str, PyTree]) -> tuple[nn.Module, dict[str, PyTree]]:
        """Returns the student alone, with its variables."""
        return self.student, {name: tree["student"] for name, tree in variables.items() if "student" in tree}
