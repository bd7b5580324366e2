"""Preparation on the host: text, tags, sound, windows of series, columns of tables."""
