"""Figures of any run: the report has those of all files of this folder, whose `draw` is as in `reporting.figures`."""
