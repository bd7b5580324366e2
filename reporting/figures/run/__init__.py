"""Figures of any run: the report contains those of all files of this folder, with `draw` as in `reporting.figures`."""
