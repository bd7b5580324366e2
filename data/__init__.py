"""Data sets, read by random access, and their batches, which are a pure function of seed and step."""


def load(config, data_dir=None, trained=None):
    """Calls `data.dataset.load`, imported late so that a typo in a flag is reported before slow libraries load."""
    from data import dataset

    return dataset.load(config, data_dir, trained)
