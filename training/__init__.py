"""Training: the step, its state, the loop around it, and the files of a run."""
