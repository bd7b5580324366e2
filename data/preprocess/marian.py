"""The tokenizers of Marian's checkpoints, which are of SentencePiece (arXiv 1808.06226), for the library `tokenizers`.

A folder has source.spm and target.spm, which cut a text into pieces, and one vocab.json with the ids of all pieces.
"""

import json
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from core.errors import UserError

UNIGRAM = 1  # a value of SentencePiece's TrainerSpec.ModelType
NORMAL = 1  # a value of its SentencePiece.Type: a piece of texts
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
HIDDEN = "\0"  # no text has it


def tokenizer(folder: Path, side: Literal["source", "target"]) -> Tokenizer:
    """Returns the tokenizer of one side. A target begins with the token for padding, as Marian's decoder does.

    Raises UserError for files that cannot be read, or are of another kind.
    """
    path = folder / f"{side}.spm"
    model = _model(path)
    if model.trainer_spec.model_type != UNIGRAM:
        raise UserError(f"{path} must hold a unigram model, the only kind that can be read")
    ids = _vocabulary(folder / "vocab.json")
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == NORMAL}
    lowest = min(scores.values())
    pieces = [_piece(name, scores, lowest) for name in sorted(ids, key=ids.__getitem__)]
    result = Tokenizer(models.Unigram(pieces, unk_id=ids[UNK], byte_fallback=False))
    spec = model.normalizer_spec
    steps = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    result.normalizer = normalizers.Sequence(steps)
    prepend = "always" if spec.add_dummy_prefix else "never"
    result.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    last_space = decoders.Strip(" ", 0, 1)  # of a space whose word the vocabulary lacks
    words = (decoders.Replace(HIDDEN, ""), decoders.Metaspace(prepend_scheme=prepend))
    result.decoder = decoders.Sequence([*words, decoders.Fuse(), last_space])
    result.post_processor = processors.TemplateProcessing(
        single=f"{PAD} $A {EOS}" if side == "target" else f"$A {EOS}",
        special_tokens=[(token, ids[token]) for token in (PAD, EOS)],
    )
    result.add_tokens([AddedToken(name, normalized=False) for name in ids if _is_language(name)])
    return result


def _is_language(piece: str) -> bool:
    """Whether a piece names the language of the translation, such as ">>fra<<", at the beginning of a source."""
    return piece.startswith(">>") and piece.endswith("<<")


def _piece(name: str, scores: dict[str, float], lowest: float) -> tuple[str, float]:
    """Returns a piece of the vocabulary and its score. One that this side's model lacks cannot be a part of a text, but
    a single character can: Marian looks up a character that its model does not know (and of several in a row, which it
    reads as one, finds none)."""
    if name in scores or len(name) == 1 or name in (PAD, EOS, UNK) or _is_language(name):
        return name, scores.get(name, lowest)
    return HIDDEN + name, lowest


def _vocabulary(path: Path) -> dict[str, int]:
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if sorted(ids.values()) != list(range(len(ids))) or not {PAD, EOS, UNK} <= ids.keys():
        raise UserError(f"{path} must have the ids 0, 1, 2, ... and the pieces {PAD}, {EOS} and {UNK}")
    return ids


def _model(path: Path) -> Any:
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError:
        raise UserError(f"{path} needs the package sentencepiece: pip install -e .[hf]") from None
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf has its own exceptions beside OSError
        raise UserError(f"{path} cannot be read: {error}") from error
    return model
