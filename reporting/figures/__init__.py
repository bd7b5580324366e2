"""Figures that show a task's predictions: `task.figures` names the files of this folder.

Each has `draw(shown: reporting.shown.Shown)`, which returns a figure, several, or None if nothing applies.
"""
