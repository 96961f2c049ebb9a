"""Training runs: recipes, the loop, checkpoints, several processes."""
