"""Opens the set that `config.data.name` names: a TFDS set, or one's own files as KIND:PATH."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from core import names
from core.errors import UserError, nearest
from data.preprocess.op import Examples
from data.sources.source import FileSource, Source, count_shared
from data.sources.tfds import Official


def kinds() -> Mapping[str, type[FileSource]]:
    """Returns the word before the colon -> the class that reads such files."""
    return names.subclasses("data.sources", FileSource)


def open_source(name: str, config: ConfigDict, data_dir: str | None, state: Any = None) -> Source:
    """Returns the source of a name; `state` is as in `FileSource`.

    Raises UserError for an unknown kind or set, or files that cannot be read.
    """
    kind, colon, path = name.partition(":")
    if kind in kinds() and path:
        return kinds()[kind](path, config, state)
    if colon:
        raise UserError(f"data.name {name!r}: unknown kind of file {kind!r}: {nearest(kind, kinds())}")
    is_folder = name.startswith((".", "/", "~")) or name.endswith("/")
    suffix = Path(name).suffix.lstrip(".") or ("folder" if is_folder else "")
    if suffix in kinds():
        raise UserError(f"data.name {name!r} is a path: write '{suffix}:{name}'")
    return Official(name, data_dir)


def open_splits(
    config: ConfigDict, data_dir: str | None, ordered: bool, state: Any = None
) -> tuple[Source, dict[str, Examples], list[str]]:
    """Returns the source, the examples of each split that the config names, and facts that identify their content.

    A split is an expression on the source's own splits, "train[:80%]", or a file of its own, "csv:test.csv", which is
    read as the source's files were, or those of another source with `state`.
    """
    specs = {name: spec for name, spec in config.splits.items() if spec}
    if "train" not in specs:
        raise UserError("data.splits.train is not set: statistics come from it")
    source = open_source(config.name, config, data_dir, state)
    examples, facts = {}, [source.fingerprint(), str(ordered)]
    for split, spec in specs.items():
        kind, colon, path = spec.partition(":")
        if colon and kind in kinds():
            if not isinstance(source, kinds()[kind]):
                raise UserError(
                    f"data.splits.{split} is {spec!r}, but data.name is {config.name!r}: use files of one kind"
                )
            other = kinds()[kind](path, config, source.state)
            examples[split] = other.examples("+".join(other.splits), ordered)
            facts.append(f"{split}={spec} {other.fingerprint()}")
        else:
            examples[split] = source.examples(spec, ordered)
            facts.append(f"{split}={spec}")
    _warn_of_shared(specs, source)
    return source, examples, facts


def _warn_of_shared(specs: Mapping[str, str], source: Source) -> None:
    """Warns of held-out splits whose examples are trained on."""
    cut = {name: spec for name, spec in specs.items() if spec.partition(":")[0] not in kinds()}
    for name in ("validation", "test"):
        if name in cut and "train" in cut and (count := count_shared(cut[name], cut["train"], source.splits)):
            line = f"data.splits.{name} {cut[name]!r} shares {count} examples with data.splits.train {cut['train']!r}"
            print(f"warning: {line}: its results are not those of new data", file=sys.stderr, flush=True)
