"""The contract of models that generate sequences token by token; `training.decoding` works on any of them.

A model reads its conditions once (`start`), then maps each token to the logits of the next one (`decode`). What it must
remember between two tokens is a `Cache`.
"""

from typing import Protocol, runtime_checkable

from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from core.errors import UserError

# Shapes: b batch, t tokens, k size of the vocabulary.


class Cache(struct.PyTreeNode):
    """A model's memory while it decodes. Every leaf has the shape [b, ...].

    Attributes:
        memory: what decoding does not change, such as the encoded source. The beams of an example share it.
        state: what each token changes: recurrent states, keys and values, the position of each row. Beam search
            reorders its rows.
    """

    memory: PyTree = None
    state: PyTree = None


@runtime_checkable
class Decoder(Protocol):
    """A module that generates; both methods are for `module.apply(variables, ..., method="start")`, without dropout.

    A module `sow`s values for figures, such as attention weights [b, t, ...], in the collection "intermediates".

    Attributes:
        context: the longest sequence of tokens, prompt included, that the model can represent; None: any length.
    """

    context: int | None

    def start(self, *conditions: Array, length: int) -> tuple[Int[Array, " b"], Cache]:
        """Returns the first tokens to decode and the cache before them.

        A model with a prompt prefills all real tokens of each row but the last, which it returns; prompts may differ in
        length. A model without a prompt returns its begin token, the field `bos_id`.

        Args:
            conditions: the inputs that the sequences depend on: a source and its lengths, an image, or a prompt and its
                lengths.
            length: the number of tokens that will be decoded, for caches of a fixed size.

        Raises:
            UserError: prompt and `length` exceed `context` (`check_context`).
        """

    def decode(self, tokens: Int[Array, "b t"], cache: Cache) -> tuple[Float[Array, "b t k"], Cache]:
        """Returns the logits (float32) of the token after each of `tokens`, and the cache after the last of them.

        Several tokens at once are the same computation as one after the other; `__call__` is `decode` over the whole
        target.
        """


def check_context(context: int | None, length: int, prompt: int = 1) -> None:
    """Raises UserError if decoding `length` tokens after a prompt exceeds the model's context.

    The last decoded token is not read again, so that `prompt + length - 1` tokens must fit.

    Args:
        prompt: the number of tokens of the longest prompt; a begin token alone is 1.
    """
    if context is not None and prompt + length - 1 > context:
        raise UserError(
            f"a prompt of {prompt} tokens and {length} more to decode exceed the model's context of {context} tokens"
        )
