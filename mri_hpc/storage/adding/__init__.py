"""Sources become chunks and commits."""
