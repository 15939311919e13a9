"""Damaged files: whatever is cut off, changed or put in, there are volumes or a reason that names nobody."""

import random
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode_natively
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import in_memory
from tests.harness import dicom_phantoms as phantoms

OF_PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
LENGTHS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\x00\xe0", b"\x7f\xff\xff\xff", b"\xff\xff")
MUTATIONS = 60


def bases():
    voxels = np.random.default_rng(0).integers(0, 4000, (16, 16, 4)).astype(np.uint16)
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    made = [
        phantoms.classic(voxels, affine, PatientName="PLANTED^NAME")[0],
        phantoms.enhanced(voxels, affine, range(4)),
        phantoms.mosaic(voxels, affine),
        phantoms.grid(voxels, affine),
    ]
    for one in made:
        one.PatientID = one.SeriesDescription = "PLANTED"
    coded = ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm")
    return [*map(phantoms.as_bytes, made), *((OF_PYDICOM / name).read_bytes() for name in coded)]


def mutated(data, dice):
    if dice.random() < 0.2:
        return data[: dice.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5, 40))):
        at = dice.randrange(dice.choice((400, min(2000, len(changed)), len(changed))))
        way = dice.randrange(4)
        if way == 0:
            changed[at] = dice.randrange(256)
        elif way == 1:
            length = dice.choice(LENGTHS)
            changed[at : at + len(length)] = length
        elif way == 2:
            del changed[at : at + dice.randrange(1, 9)]
        else:
            changed[at:at] = dice.randbytes(dice.randrange(1, 9))
    return bytes(changed)


@pytest.mark.parametrize("number", range(7))
def test_a_damaged_file_gives_images_or_a_reason(number):
    data, dice = bases()[number], random.Random(number)
    reasons = set()
    for _ in range(MUTATIONS):
        try:
            for image in decode_natively(in_memory(mutated(data, dice)), Recipe()):
                assert image.grey.ndim == 2
        except BadSource as error:
            reasons.add(str(error))
    assert len(reasons) > 2
    assert not any("PLANTED" in reason for reason in reasons)
