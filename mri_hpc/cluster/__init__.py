"""Slurm, submitit, the local supervisor, and what to do when the ranks have gone."""
