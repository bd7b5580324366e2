"""The tokenizers that arguments of ops may call, each a class named as in `names.subclasses`: `bpe(4000)` is `Bpe`."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from core.errors import UserError, nearest
from core.info import Info
from core.vocabulary import Vocabulary
from data.preprocess import marian

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")  # ids 0 to 3
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4
BYTES = 256
INFO = "info.json"  # file of a run's folder that describes its data set

# A word is a number with its points and commas, letters and digits with inner apostrophes and hyphens, or one
# punctuation mark.
WORD = r"\d+(?:[.,]\d+)+|\w+(?:['\u2019-]\w+)*|[^\w\s]"
EVEN_QUOTES = r'[^"]*(?:"[^"]*"[^"]*)*$'  # text after a closing quotation mark
NO_SPACE = (
    r" (?=[.,!?;:…%)\]}»”])",
    r"(?<=[(\[{«„¿¡]) ",
    rf'(?<=") (?=[^"]*"{EVEN_QUOTES})',  # after an opening quotation mark: an odd number of them follows
    rf' (?="{EVEN_QUOTES})',
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Base class: makes a tokenizer from the texts of the training split."""

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        """Returns the tokenizer. Raises UserError for a file that cannot be read."""
        raise NotImplementedError

    @property
    def content(self) -> str:
        """A hash of the files that the tokenizer is read from; "" without files."""
        return ""


@dataclasses.dataclass(frozen=True)
class Characters(Recipe):
    """One token per code point that occurs in training. Lossless for these: text -> ids -> text is the identity."""

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        vocabulary = {token: index for index, token in enumerate([*SPECIALS, *sorted(seen)])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return tokenizer


@dataclasses.dataclass(frozen=True)
class Words(Recipe):
    """One token per word or punctuation mark, the most frequent of training; all others are <unk>.

    Decoding joins words with spaces, but not at punctuation and quotation marks.

    Args:
        size: of the vocabulary, the four special tokens included.
        min_count: words that occur less often in training are <unk>.
        lowercase: whether capitals become lower-case.

    Raises ValueError if `size` leaves no room for a word, or `min_count` is below 1.
    """

    size: int = 10_000
    min_count: int = 1
    lowercase: bool = False

    def __post_init__(self):
        _check_size(self.size, len(SPECIALS))
        if self.min_count < 1:
            raise ValueError(f"min_count must be at least 1, not {self.min_count}")

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        if self.lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
        spaced = decoders.WordPiece(prefix="\0", cleanup=False)  # no token has it: all but the first get a space
        tight = [decoders.Replace(Regex(space), "") for space in NO_SPACE]
        tokenizer.decoder = decoders.Sequence([spaced, decoders.Fuse(), *tight])
        options = {"vocab_size": self.size, "min_frequency": self.min_count, "special_tokens": list(SPECIALS)}
        return _trained(tokenizer, trainers.WordLevelTrainer(show_progress=False, **options), texts)


@dataclasses.dataclass(frozen=True)
class Bpe(Recipe):
    """Byte-pair encoding of bytes: lossless for any text, without unknown tokens.

    Source: R. Sennrich, B. Haddow, A. Birch, arXiv 1508.07909; on bytes as in GPT-2 (A. Radford and others, 2019,
    section 2.2).

    Args:
        size: of the vocabulary, the four special tokens and 256 bytes included.

    Raises ValueError if `size` leaves no room for a merge.
    """

    size: int = 8_000

    def __post_init__(self):
        _check_size(self.size, len(SPECIALS) + BYTES)

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        options = {"vocab_size": self.size, "special_tokens": list(SPECIALS), "initial_alphabet": alphabet}
        return _trained(tokenizer, trainers.BpeTrainer(show_progress=False, **options), texts)


@dataclasses.dataclass(frozen=True)
class Wordpiece(Recipe):
    """Pieces of words, as BERT reads them: the text between [CLS] and [SEP], with [MASK].

    Source: J. Devlin and others, arXiv 1810.04805, and its code; M. Schuster and K. Nakajima, Japanese and Korean voice
    search, ICASSP 2012.

    Args:
        size: of the vocabulary, the five special tokens included.
        lowercase: whether capitals become lower-case and accents are removed, as in BERT's uncased models.

    Raises ValueError if `size` leaves no room for a piece.
    """

    size: int = 30_000
    lowercase: bool = True

    def __post_init__(self):
        _check_size(self.size, len(BERT_SPECIALS))

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        texts, inner = list(texts), set()
        for text in texts:
            words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
            inner.update(*(word[1:] for word, _ in words))
        # Without ids for these the trainer numbers them in an order that differs from process to process.
        known = [*BERT_SPECIALS, *(f"##{letter}" for letter in sorted(inner))]
        options = {"vocab_size": self.size, "special_tokens": known}
        trained = _trained(tokenizer, trainers.WordPieceTrainer(show_progress=False, **options), texts)
        trained.add_special_tokens(["[MASK]"])  # which a text to be completed has
        return trained


@dataclasses.dataclass(frozen=True)
class Unigram(Recipe):
    """Pieces of text by a unigram language model; characters that training lacks are <unk>.

    Source: T. Kudo, arXiv 1804.10959; spaces are marked as by SentencePiece, arXiv 1808.06226.

    Args:
        size: of the vocabulary, the five special tokens included.

    Raises ValueError if `size` leaves no room for a piece.
    """

    size: int = 8_000

    def __post_init__(self):
        _check_size(self.size, len(SPECIALS) + 1)

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        no_special = pre_tokenizers.Split("<", "isolated")  # no piece can be the name of a special token
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), no_special])
        tokenizer.decoder = decoders.Metaspace()
        specials = [*SPECIALS, "<mask>"]
        options = {"vocab_size": self.size, "special_tokens": specials, "unk_token": "<unk>"}
        trained = _trained(tokenizer, trainers.UnigramTrainer(show_progress=False, **options), texts)
        result = self._reproducible(trained, len(specials))
        result.add_special_tokens(["<mask>"])  # which a text to be completed has
        return result

    def _reproducible(self, tokenizer: Tokenizer, specials: int) -> Tokenizer:
        """Returns the tokenizer with the pieces in alphabetic order.

        The trainer's order differs from process to process, and with it the scores of rare characters, which are the
        lowest score plus a multiple of 0.0001.
        """
        state = json.loads(tokenizer.to_str())
        pieces = state["model"]["vocab"]
        lowest = min(score for _, score in pieces)

        def score_of(piece: str, score: float) -> float:
            steps = (score - lowest) / 1e-4
            return round(lowest if len(piece) == 1 and abs(steps - round(steps)) < 1e-6 else score, 6)

        state["model"]["vocab"] = pieces[:specials] + sorted(
            [piece, score_of(piece, x)] for piece, x in pieces[specials:]
        )
        return Tokenizer.from_str(json.dumps(state))


@dataclasses.dataclass(frozen=True)
class File(Recipe):
    """The tokenizer of a file of Hugging Face's format, `tokenizer.json`, with that file's special tokens.

    Args:
        path: the file.
    """

    path: str

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        return _unpadded(_read(self.path, Tokenizer.from_str))

    @property
    def content(self) -> str:
        return _content(self.path)


@dataclasses.dataclass(frozen=True)
class Run(Recipe):
    """The tokenizer of another run, so that its weights fit the ids.

    Args:
        workdir: the other run's folder, or a checkpoint in it.
        key: the key whose tokenizer it is; "" if the run has one tokenizer.
    """

    workdir: str
    key: str = ""

    @property
    def _file(self) -> Path:
        folder = Path(self.workdir).expanduser().absolute()
        files = [parent / INFO for parent in (folder, *folder.parents[:2])]
        return next((file for file in files if file.exists()), files[0])

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        info = _read(self._file, lambda text: Info.from_json(json.loads(text)))
        found = {key: record.vocabulary.tokenizer for key, record in info.keys.items() if record.vocabulary}
        found = {key: tokenizer for key, tokenizer in found.items() if tokenizer}
        if self.key and self.key not in found:
            raise UserError(f"{self.workdir} has no tokenizer of {self.key!r}: {nearest(self.key, found)}")
        chosen = {found[self.key]} if self.key else set(found.values())
        if len(chosen) != 1:
            raise UserError(f"{self.workdir} has {len(chosen)} tokenizers: name a key of {', '.join(found) or 'none'}")
        return _unpadded(Tokenizer.from_str(chosen.pop()))

    @property
    def content(self) -> str:
        return _content(self._file)


@dataclasses.dataclass(frozen=True)
class Start(Recipe):
    """The tokenizer of `config.init_from`, which replaces the argument there; without a start, the one given.

    Args:
        tokenizer: such as wordpiece(8000).
    """

    tokenizer: Recipe

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        return self.tokenizer(texts)

    @property
    def content(self) -> str:
        return self.tokenizer.content


@dataclasses.dataclass(frozen=True)
class Marian(Recipe):
    """The tokenizer of a Marian checkpoint, from source.spm or target.spm and vocab.json. Needs sentencepiece.

    Args:
        folder: of the checkpoint.
        side: "source" or "target".
    """

    folder: str
    side: Literal["source", "target"]

    def __call__(self, texts: Iterable[str]) -> Tokenizer:
        return marian.tokenizer(Path(self.folder).expanduser(), self.side)

    @property
    def content(self) -> str:
        files = (Path(self.folder).expanduser() / name for name in (f"{self.side}.spm", "vocab.json"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()


RECIPES = {cls.__name__.lower(): cls for cls in Recipe.__subclasses__()}  # the names in a recipe


def mark(tokenizer: Tokenizer) -> None:
    """Makes a tokenizer put texts between its begin and end tokens, unless it already adds its own.

    A second text follows the first one's separator, or end token, and has the segment 1.

    Raises UserError if it has no such tokens.
    """
    if tokenizer.num_special_tokens_to_add(is_pair=True):
        return
    vocabulary = Vocabulary.of(tokenizer)
    if vocabulary.bos is None or vocabulary.eos is None:
        raise UserError("the tokenizer has no tokens for begin and end: set special=False")
    between = vocabulary.eos if vocabulary.sep is None else vocabulary.sep
    bos, eos, sep = map(tokenizer.id_to_token, (vocabulary.bos, vocabulary.eos, between))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {sep} $B:1 {eos}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in {bos, eos, sep}],
    )


def _check_size(size: int, least: int) -> None:
    if size <= least:
        raise ValueError(f"size must be above {least}, the number of tokens that are always there, not {size}")


def _trained(tokenizer: Tokenizer, trainer: Any, texts: Iterable[str]) -> Tokenizer:
    """Trains; the special tokens keep their ids, but are not matched in texts, where "<eos>" is five characters."""
    tokenizer.train_from_iterator(texts, trainer)
    return Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "added_tokens": []}))


def _unpadded(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _read(path: str | Path, parse: Any) -> Any:
    try:
        return parse(Path(path).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"file {path} does not exist") from None
    except Exception as error:  # the library raises a bare Exception for a file of another format
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read: {reason}") from error


def _content(path: str | Path) -> str:
    return hashlib.sha256(_read(path, str).encode()).hexdigest()
