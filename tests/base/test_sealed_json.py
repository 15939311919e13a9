"""A sealed document gives back what was sealed, or says that it is damaged."""

import pytest

from mri_hpc.base.sealed_json import seal, unseal

VALUES = {"name": "ö", "number": 1.5, "list": [1, {"a": None}], "empty": {}}


def test_what_was_sealed_comes_back():
    assert unseal(seal(VALUES)) == VALUES
    assert unseal(seal(VALUES, in_lines=False)) == VALUES


def test_every_flipped_bit_is_found_or_changes_no_value():
    document = seal(VALUES)
    found = 0
    for place in range(len(document) * 8):
        damaged = bytearray(document)
        damaged[place // 8] ^= 1 << place % 8
        try:
            assert unseal(bytes(damaged)) == VALUES
        except ValueError:
            found += 1
    assert found > 0.9 * len(document) * 8


def test_what_is_no_sealed_document_is_refused():
    for data in (b"", b"[]", b"{}", b'{"checksum": null}', b"\xff\xfe"):
        with pytest.raises(ValueError, match=r"."):
            unseal(data)
