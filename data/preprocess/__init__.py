"""Preprocessing on the host: text, tags, audio, windows of series, columns of tables."""
