"""Bands: some rows of a picture at a time. What is made of them on the way takes several times their room."""

from collections.abc import Iterator

BAND_PIXELS = 2**20


def bands(height: int, width: int) -> Iterator[slice]:
    """Yield all rows of a picture of that shape, some at a time."""
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
