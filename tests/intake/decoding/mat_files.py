"""Files as those of Cheng's set: MATLAB 7.3, a slice each."""

import io
from typing import Any

import h5py
import numpy as np

USER_BLOCK = (
    b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 01 00:00:00 2024 HDF5 schema 1.00 ."
)


def mat_file(
    label: int = 2,
    patient: str = "103314",
    image: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    **others: Any,
) -> bytes:
    """The bytes of a file as MATLAB writes it: user block of 512, columns first, text as codes."""
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as hdf5:
        group = hdf5.create_group("cjdata")
        arrays = {"image": slices(label) if image is None else image, "tumorMask": mask}
        arrays["tumorBorder"] = np.array([[1.0, 2.0, 3.0, 4.0]])
        for name, values in arrays.items():
            if values is None:
                group.create_dataset(name, data=np.array([0, 0], np.uint64)).attrs["MATLAB_empty"] = 1
            else:
                group.create_dataset(name, data=np.asarray(values).T, **others)
        group.create_dataset("label", data=np.array([[float(label)]]))
        group.create_dataset("PID", data=np.array([[ord(letter)] for letter in patient], np.uint16))
    return USER_BLOCK.ljust(124) + b"\x00\x02IM" + bytes(384) + file.getvalue()[512:]


def slices(number: int = 0) -> np.ndarray:
    """Grey values of a slice, (40, 56)."""
    y, x = np.mgrid[0:40, 0:56]
    return (800 + 700 * np.sin(x / 9 + number) * np.cos(y / 11)).astype(np.int16)


def tumour() -> np.ndarray:
    """Mask of it, (40, 56)."""
    mask = np.zeros((40, 56), np.uint8)
    mask[10:20, 28:42] = 1
    return mask
