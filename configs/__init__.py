"""Runnable recipes. `get_config(arg)` returns a complete config; the docstring of the file states its measured result."""
