"""Read a store with numpy alone: what is in it, and the mean image of each class.

Run it: python examples/read_a_store.py data/store
"""

import sys

import numpy as np

from mri_hpc import Store

store = Store.open(sys.argv[1] if len(sys.argv) > 1 else "data/store")
snapshot = store.resolve("newest")
print(f"snapshot {snapshot.digest}: {len(snapshot)} images of {snapshot.image_shape}")

with store.reader(snapshot) as reader:
    for number, name in enumerate(snapshot.classes):
        rows = np.flatnonzero(snapshot.label == number)
        images = reader.read(rows[:256])  # uint8 (of 16 bits uint16), (n, H, W), at the rate of a memory copy
        print(f"{name}: {len(rows)} images, mean grey level {images.mean():.1f}")
