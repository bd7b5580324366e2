"""TFDS data sets, from `data.builders` and official ones, read by random access without TensorFlow."""

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from core.errors import UserError, nearest
from core.info import Key
from core.vocabulary import Vocabulary
from data.builders import BUILDERS
from data.preprocess.op import Chunk, Examples, Indices
from data.preprocess.values import as_image, as_label_map, decoded, flatten
from data.sources.files import reason
from data.sources.images import decode_colours
from data.sources.source import Source, content_hash, resolve

GROUP = "features/"  # some tables nest their columns under this name
ROLES_BY_NAME = {
    "features": "features",
    "frames": "frames",
    "audio": "wave",
    "series": "series",
    "video": "video",
    "volume": "volume",
    "label_map": "label_map",
    "label": "label",
    "target": "target",
}  # of keys whose feature does not determine the role


class Official(Source):
    """A prepared TFDS set.

    Args:
        name: a TFDS name such as "cmaterdb/bangla"; `data.builders` take precedence over official sets of that name.
        data_dir: folder of prepared sets; None is TFDS's default. A set that is not there is prepared.

    Raises:
        UserError: unknown set; it is not prepared and cannot be; it was prepared in a format without random access.
    """

    def __init__(self, name: str, data_dir: str | None):
        with _undamaged(Path(data_dir or tfds.core.constants.DATA_DIR) / name):
            self.builder = _prepared(name, data_dir)
        self.splits = self.builder.info.splits
        self.leaves = dict(flatten(_tree(self.builder.info.features)))
        self.is_table = all(leaf.shape == () for leaf in self.leaves.values())
        metadata = self.builder.info.metadata or {}
        vocabularies, classes = (metadata.get(name, {}) for name in ("vocabularies", "classes"))
        self.tensors = dict(flatten(self.builder.info.features.get_tensor_info()))
        shapes = {key: info.shape for key, info in self.tensors.items()}
        self.keys = {
            self._name(key): describe(key, leaf, shapes.get(key, ()), vocabularies.get(key), classes.get(key, ()))
            for key, leaf in self.leaves.items()
        }
        if self.is_table:  # a file of new rows is read by it
            self.state = {name: {"kind": _kind(record), "marks": []} for name, record in self.keys.items()}

    def _name(self, key: str) -> str:
        return key.removeprefix(GROUP) if self.is_table else key

    def examples(self, spec: str, ordered: bool = False) -> Examples:
        """Returns the examples of a split expression; TFDS shuffled them when it prepared the set."""
        resolve(spec, self.splits)
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        folder = Path(self.builder.data_dir)
        with _undamaged(folder):
            source = self.builder.as_data_source(split=spec, deserialize_method=raw)
        records = Records(source, self.builder.info.features)
        names = {key: self._name(key) for key in self.leaves}
        lists = {
            names[key]: np.zeros((0, *info.shape[1:]), info.np_dtype)
            for key, info in self.tensors.items()
            if isinstance(self.leaves.get(key), tfds.features.Sequence) and None not in info.shape[1:]
        }
        return _Examples(records, names, self.keys, lists, self.is_table, folder)

    def fingerprint(self) -> str:
        folder = Path(self.builder.data_dir)
        return content_hash(sorted(file for file in folder.iterdir() if file.suffix != ".json"))  # TFDS's own notes


def _kind(record: Key) -> str:
    return "text" if record.classes or record.role == "text" else "number"


@contextlib.contextmanager
def _undamaged(folder: Path) -> Iterator[None]:
    """Context that reads a prepared set. Raises UserError, which names the folder, for any exception of its readers."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Riegeli's, those of protobuf and json, and of decoders
        raise UserError(f"{folder} is damaged ({reason(error)}): remove it, and it is prepared again") from error


class _Examples:
    """Records as columns. Images are [h, w, c]; class labels of a table are names, None where missing.

    Args:
        names: name in the records -> key.
        lists: key whose values TFDS decodes as lists -> an empty array of their type and further axes.
    """

    def __init__(
        self,
        records: "Records",
        names: dict[str, str],
        keys: Mapping[str, Key],
        lists: Mapping[str, np.ndarray],
        is_table: bool,
        folder: Path,
    ):
        self.records, self.names, self.keys, self.lists, self.is_table = records, names, keys, lists, is_table
        self.folder = folder

    def __len__(self) -> int:
        return len(self.records)

    def chunk(self, indices: Indices, keys: Collection[str] | None = None) -> Chunk:
        wanted = None if keys is None else {key for key, name in self.names.items() if name in keys}
        with _undamaged(self.folder):
            examples = [dict(flatten(example)) for example in self.records.read([int(i) for i in indices], wanted)]
        present = {key for example in examples for key in example}
        return {
            name: [self._value(name, example.get(key)) for example in examples]
            for key, name in self.names.items()
            if key in present and (wanted is None or key in wanted)
        }

    def _value(self, name: str, value: Any) -> Any:
        record = self.keys[name]
        if value is None:
            return None
        if record.role == "image":
            return as_image(np.asarray(value))
        if record.role == "label_map":
            return as_label_map(np.asarray(value))
        if self.is_table and record.classes:
            return record.classes[value] if value >= 0 else None
        if name in self.lists and record.role != "text":
            empty = self.lists[name]
            return np.array(value, empty.dtype).reshape(len(value), *empty.shape[1:])
        return decoded(value)


def describe(
    key: str, leaf: Any, shape: tuple[int | None, ...], vocabulary: dict | None = None, classes: Collection[str] = ()
) -> Key:
    """Returns the description of a feature: role, class names, vocabulary, whether its length varies.

    Args:
        vocabulary, classes: from the set's metadata, of features that cannot hold them.
    """
    inner = leaf.feature if isinstance(leaf, tfds.features.Sequence) else leaf
    is_class = isinstance(inner, tfds.features.ClassLabel) and bool(inner.num_classes)
    is_named = is_class or (isinstance(inner, tfds.features.LabeledImage) and bool(inner.num_classes))
    classes = tuple(inner.names) if is_named else tuple(classes)
    last = key.rpartition("/")[2]
    if vocabulary:
        role = "tokens"
    elif isinstance(leaf, tfds.features.Image) or (key == "image" and len(leaf.shape) in (2, 3)):
        is_picture = last.startswith("image") or (leaf.shape[2:] and leaf.shape[2] not in (None, 1))
        role = "image" if is_picture or np.issubdtype(leaf.np_dtype, np.floating) else "label_map"
    elif isinstance(inner, tfds.features.BBoxFeature):
        role = "boxes"
    elif np.dtype(inner.np_dtype).kind == "O" or isinstance(inner, tfds.features.Text):
        role = "text"
    elif isinstance(leaf, tfds.features.Audio):
        role = "wave"
    elif last in ROLES_BY_NAME:
        role = ROLES_BY_NAME[last]
    elif is_class:
        role = "label" if inner is leaf else "tags"
    else:
        role = "number" if leaf.shape == () else ""
    is_ragged = tuple(shape[:1]) == (None,) and role not in ("image", "label_map")
    return Key(
        role=role, classes=classes, vocabulary=Vocabulary(**vocabulary) if vocabulary else None, ragged=is_ragged
    )


class Records:
    """Examples decoded from records.

    TFDS's general decoder handles any nesting and takes longer than decoding a small image. Here it runs only for
    nested features: a set of single values (images, labels, texts) is read from the record directly.

    Attributes:
        data_source: the records, each a serialized tf.train.Example.
        features: their description.
    """

    def __init__(self, data_source: Sequence[bytes], features: tfds.features.FeaturesDict):
        self.data_source, self.features = data_source, features
        readers = {key: _reader(features[key]) for key in sorted(features)}  # the order of TFDS
        self._readers = readers if all(readers.values()) else None

    def __len__(self) -> int:
        return len(self.data_source)

    def read(self, indices: Sequence[int], keys: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Returns the examples at `indices`; only `keys` where the set has single values."""
        return [self._decode(record, keys) for record in self.data_source.__getitems__(indices)]

    def _decode(self, record: bytes, keys: Collection[str] | None) -> dict[str, Any]:
        if self._readers is None:
            return self.features.deserialize_example_np(record)
        values = tf_example_pb2.Example.FromString(record).features.feature
        return {key: read(values[key]) for key, read in self._readers.items() if keys is None or key in keys}


def _reader(feature: Any) -> Callable[[Any], Any] | None:
    """Returns the decoder of a tf.train.Feature; None unless the feature holds exactly one value."""
    info = feature.get_serialized_info()
    if not isinstance(info, tfds.features.TensorInfo) or info.shape or info.optional:
        return None
    if isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8 and feature.shape[-1] == 3:
        return functools.partial(_read, decode_colours, "bytes_list", None)  # twice as fast as TFDS
    dtype = np.dtype(info.np_dtype)
    kind = {"O": "bytes_list", "f": "float_list"}.get(dtype.kind, "int64_list")
    as_number = None if kind == "bytes_list" else dtype.type
    return functools.partial(_read, feature.decode_example_np, kind, as_number)


def _read(decode: Callable[[Any], Any], kind: str, as_number: Callable[[Any], np.generic] | None, value: Any) -> Any:
    (item,) = getattr(value, kind).value
    return decode(as_number(item).item() if as_number else item)


def _tree(features: Any) -> Any:
    """Returns nested dicts whose leaves are features."""
    if isinstance(features, tfds.features.FeaturesDict):
        return {key: _tree(features[key]) for key in sorted(features)}  # the order of records
    if isinstance(features, tfds.features.Sequence) and isinstance(features.feature, tfds.features.FeaturesDict):
        return {key: tfds.features.Sequence(features.feature[key]) for key in sorted(features.feature)}
    return features


def _prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    base, _, config = name.partition("/")
    if base in BUILDERS:
        configs = BUILDERS[base].builder_configs
        if config and config not in configs:
            raise UserError(f"data.name: {base!r} has no config {config!r}: {nearest(config, configs)}")
        make = functools.partial(BUILDERS[base], config=config or None, data_dir=data_dir, file_format="array_record")
        if not (builder := make()).is_prepared():
            with contextlib.redirect_stdout(None):  # seconds of work: TFDS would print five lines and three bars
                tfds.disable_progress_bar()
                _prepare(builder)
                tfds.enable_progress_bar()
        return make()  # reads the files on disk, whichever process wrote them
    builder = _official(name, data_dir)
    if not builder.is_prepared():
        if not _has_tensorflow():
            raise _unprepared(name, data_dir)
        _prepare(builder)
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{name!r} is prepared as {builder.info.file_format.value}, which has no random access: prepare it with "
            "`tfds build --file_format=array_record`, or give another --data_dir"
        )
    return builder


def _official(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        base = name.partition("/")[0]
        known = _known_names()
        if base in known and not _has_tensorflow():  # many builders cannot even be imported without it
            raise _unprepared(name, data_dir) from None
        raise UserError(f"data.name: data set {name!r} does not exist: {nearest(base, known)}") from None
    except (ValueError, AssertionError, TypeError) as error:
        base, _, config = name.partition("/")
        if base in _known_names() and config:
            configs = tfds.builder_cls(base).builder_configs
            raise UserError(f"data.name: {base!r} has no config {config!r}: {nearest(config, configs)}") from error
        raise UserError(f"data.name: {name!r} is not a data set: {nearest(base, _known_names())}") from error


def _known_names() -> set[str]:
    """Returns the names of all sets. TFDS cannot list all of its sets without TensorFlow, but most have checksums or a
    test named after them."""
    root = Path(tfds.__file__).parent
    listed = tfds.list_builders(with_community_datasets=False)  # community sets would need the network
    checksums = (file.stem for file in root.glob("url_checksums/*.txt"))
    groups = (folder for folder in root.iterdir() if folder.name not in ("core", "scripts", "testing"))
    tests = (file.stem.removesuffix("_test") for folder in groups for file in folder.rglob("*_test.py"))
    return {*BUILDERS, *listed, *checksums, *tests}


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _unprepared(name: str, data_dir: str | None) -> UserError:
    where = data_dir or tfds.core.constants.DATA_DIR
    return UserError(
        f"{name!r} is not prepared under {where}; preparing it needs the extra `tfds`: pip install -e '.[tfds]'"
    )


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # from the network, the disk or the builder: all are outside of this project
        if builder.is_prepared():  # another process of the run was faster
            return
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"preparing {builder.name!r} under {builder.data_dir} failed: {reason[0]}") from error
