"""Ablations of papers as data: the `get_config(arg)` of a file declares one, `experiments.run` trains it, and
`experiments.table` compares it with the paper.
"""
