"""Volumes: files of scanners, turned the right way up and cut into slices."""
