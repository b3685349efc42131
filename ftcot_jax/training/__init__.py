"""The train step, trial slots, checkpoints and the loop."""
