"""JSON documents with a checksum of all other values, which shows damage."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"


def seal(values: Mapping[str, Any], *, in_lines: bool = True) -> bytes:
    """Return the values as a document with its checksum. in_lines: each in a line of its own."""
    whole = {**values, CHECKSUM: _checksum(values)}
    return json.dumps(whole, indent=1 if in_lines else None).encode() + b"\n"


def unseal(document: bytes) -> dict[str, Any]:
    """Return the values of a document; ValueError where any of them is not the one that was sealed."""
    values = json.loads(document)
    if not isinstance(values, dict) or values.pop(CHECKSUM, None) != _checksum(values):
        raise ValueError("its checksum does not fit")
    return values


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
