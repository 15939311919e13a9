"""Checks of a machine, its file systems and its cluster: one file a check."""
