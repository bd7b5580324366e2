"""Reports of runs, comparisons of runs, and figures."""
