"""Pictures that are drawn for predict, and the command as tests type it."""

import csv

import numpy as np
from PIL import Image

from mri_hpc.predict import main

CLASSES = ("glioma", "pituitary")
KEY = bytes([0x5E]) * 32


def draw(path, number, label):
    """A grey picture with a bright spot, whose place tells the class."""
    noise = np.random.default_rng(number)
    pixels = noise.integers(0, 90, (40, 48))
    pixels[8 + 14 * label : 20 + 14 * label, 10:30] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def store_aside(root):
    """Return where the store of the run lies, which is gone from where the run knows it."""
    return root / "store elsewhere"


def predict(*arguments, capsys, names=("--names",)):
    capsys.readouterr()
    status = main([str(argument) for argument in (*arguments, *names)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
