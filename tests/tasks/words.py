"""A tokenizer of given words."""

from collections.abc import Mapping

from tokenizers import Tokenizer, models


def tokenizer(ids: Mapping[str, int]) -> str:
    """Returns the JSON of a tokenizer that joins words with spaces."""
    return Tokenizer(models.WordLevel(dict(ids), unk_token="<unk>")).to_str()
