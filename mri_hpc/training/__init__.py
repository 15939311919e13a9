"""Ranks, model, learner, checkpoints and the loop."""
