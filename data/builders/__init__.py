"""TFDS builders of this project, prepared on first use without TensorFlow: sets that ship with scikit-learn, procedural
sets, and sets made of raw files from a download or the user's disk. A new file with a builder is discovered.
"""

import importlib
import inspect
import pkgutil
from types import ModuleType

import tensorflow_datasets as tfds


def _builders(module: ModuleType) -> dict[str, type[tfds.core.GeneratorBasedBuilder]]:
    """Returns the public, complete builders that a module defines, keyed by the names of their sets."""
    return {
        thing.name: thing
        for name, thing in vars(module).items()
        if inspect.isclass(thing)
        and issubclass(thing, tfds.core.GeneratorBasedBuilder)
        and thing.__module__ == module.__name__
        and not name.startswith("_")
        and not inspect.isabstract(thing)
    }


BUILDERS = {
    name: builder
    for entry in pkgutil.iter_modules(__path__, f"{__name__}.")
    for name, builder in _builders(importlib.import_module(entry.name)).items()
}
