"""Training: the published recipe, run folders, any number of processes."""
