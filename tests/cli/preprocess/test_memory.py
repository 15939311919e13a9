"""What preprocess and the store's actions take of a node's memory, however large pictures and chunks are."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

MOST_MB = 500
SIDE = 6320
"""Of a square picture that is nearly as large as any that is taken."""
IMAGES = 450
"""Of one megabyte each as they are stored."""

# Not getrusage: it tells of whoever started a process, too, where that took more.
RUN = """
import importlib, sys
status = importlib.import_module(sys.argv[1]).main(sys.argv[2:])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(status)
"""


def run(module, *arguments):
    """What a command prints as JSON, and the most memory it took, in MB."""
    command = [sys.executable, "-c", RUN, f"mri_hpc.{module}", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), int(done.stderr.split()[-1]) * 1024 / 1e6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of some large pictures and many small ones, which become large; removed at the end."""
    path = tmp_path_factory.mktemp("memory")
    folder = path / "raw" / "glioma" / "patient"
    folder.mkdir(parents=True)
    ramp = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) >> 6).astype(np.uint8)
    colours = Image.merge("RGBA", [Image.fromarray(ramp)] * 4)
    colours.save(folder / "transparent.png", compress_level=1)
    colours.convert("CMYK").save(folder / "cmyk.tif", compression="tiff_lzw")
    Image.fromarray(ramp.astype(np.float32)).save(folder / "floats.tif", compression="tiff_adobe_deflate")
    for number in range(IMAGES - 3):
        # Each twice, so that an audit reads them.
        image = np.random.default_rng(number // 2).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(image).resize((32, 32)).save(folder / f"{number}.jpg")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def preprocessed(place):
    """The counts and the memory of preprocess."""
    where = ("--source", place / "raw", "--store", place / "store", "--ids", "as-given")
    return run("preprocess", *where, "--size", 1024, "--chunk-images", 10_000)


def test_preprocess_takes_no_more_for_huge_pictures_and_chunks(preprocessed):
    counts, peak_mb = preprocessed
    assert (counts["stored"], counts["rejected"]) == (IMAGES, 0)
    assert peak_mb < MOST_MB


@pytest.mark.usefixtures("preprocessed")
@pytest.mark.parametrize(
    "action",
    [("verify",), ("audit",), ("export", "--single", "all.h5"), ("compact", "--keep-days", "0")],
    ids=lambda action: action[0],
)
def test_no_action_on_a_store_takes_more_for_large_chunks(place, monkeypatch, action):
    monkeypatch.chdir(place)
    printed, peak_mb = run("store", action[0], place / "store", *action[1:])
    assert peak_mb < MOST_MB
    if action[0] == "compact":
        assert printed["bytes_written"] > 2**28 - 2**24
