"""Signatures: the first bytes of the formats of pictures, and the markers of a JPEG's parts."""

JPEG, PNG, BMP, GIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"
LITTLE_TIFF, BIG_ENDIAN_TIFF = b"II*\0", b"MM\0*"
TIFF = (LITTLE_TIFF, BIG_ENDIAN_TIFF)
BIG_TIFF = (b"II+\0", b"MM\0+")
JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")

JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"
# Tables and a reserved one stand among the markers from C0 to CF.
JPEG_FRAMES = {bytes([0xFF, kind]) for kind in (*range(0xC0, 0xD0), 0xF7) if kind not in (0xC4, 0xC8, 0xCC)}
"""Markers that begin a frame: its depth and its size stand behind them."""
