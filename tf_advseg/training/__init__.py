"""Taking steps: strategies, optimizers, the loop, stages, checkpoints, health."""
