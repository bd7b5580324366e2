"""The machinery behind `experiments.run` and `experiments.table`."""
