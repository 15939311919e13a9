"""Splits of the images, their audit, and the lineage of runs."""
