"""Papers' ablations as data: a file's `get_config(arg)` declares one, `experiments.run` trains it, `experiments.table`
compares it with the paper.
"""
