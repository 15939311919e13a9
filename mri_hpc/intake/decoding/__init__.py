"""Decoding of files of many kinds into pictures of one size."""
