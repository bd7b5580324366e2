"""The implementation of `experiments.run` and `experiments.table`."""
