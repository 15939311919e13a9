#!/usr/bin/env bash
# The guess: the same tensors with the same metadata, saved twice by the same version of safetensors, give the same
#   bytes, as they do without metadata. So a file's sha256 names a model.
# What happens: with two or more entries of metadata the bytes differ from one process to the next. The entries stand in
#   the header in an order that is drawn anew in each process; tensors, offsets and the file's length stay the same.
# Versions: safetensors 0.8.0, numpy 2.4.6, CPython 3.11 to 3.12, Linux x86-64.
# Why it matters: a checkpoint, or a published model, is often named by the hash of its file, and "the same weights to the
#   bit" is shown by comparing such hashes. Compare the tensors (or hash them by name), not the file; or write one entry.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6

cat >"$folder/save.py" <<'PYTHON'
import hashlib
import sys

import numpy as np
from safetensors.numpy import save

entries = {f"entry{number}": str(number) for number in range(int(sys.argv[1]))}
data = save({"weight": np.arange(6, dtype=np.float32), "bias": np.ones(2, np.float32)}, metadata=entries or None)
print(len(data), hashlib.sha256(data).hexdigest())
PYTHON

# 16 processes: with six entries in any order, all alike would be a chance below one in 10^40.
digests() {
    for _ in $(seq 16); do "$folder/venv/bin/python" "$folder/save.py" "$1"; done
}

none=$(digests 0 | sort -u | wc -l)
one=$(digests 1 | sort -u | wc -l)
six=$(digests 6 | sort -u)
echo "different files of 16 saved: without metadata $none, with one entry $one, with six $(wc -l <<<"$six")"
echo "different lengths among the latter: $(cut -d' ' -f1 <<<"$six" | sort -u | wc -l)"

if [ "$none" = 1 ] && [ "$one" = 1 ] && [ "$(wc -l <<<"$six")" -gt 1 ]; then
    echo "as described above"
else
    echo "this has changed: the head of this file is out of date" >&2
    exit 1
fi
