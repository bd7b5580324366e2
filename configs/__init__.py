"""Runnable recipes: `get_config(arg)` returns a complete config; the docstring states its measured result."""
