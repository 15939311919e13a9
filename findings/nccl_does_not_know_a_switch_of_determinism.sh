#!/usr/bin/env bash
# The guess: NCCL_P2P_NET_DISABLE=1 and NCCL_NTHREADS=1, which well-known trainers and servers set beside NCCL_ALGO and
#   NCCL_PROTO so that sums over GPUs are the same to the bit, do something.
# What happens: NCCL does not know the first at all. It is a parameter of AMD's RCCL (RCCL_PARAM in its sources, whose
#   variables begin with NCCL_ as well); NCCL reads variables by their whole names, and this name is not in its library.
#   Its own are NCCL_P2P_DISABLE and NCCL_P2P_LEVEL. The library also holds a refusal of numbers of threads that are no
#   multiples; that 1 meets it was not tried, as that takes a GPU. No other variable of these sets is unknown.
# Versions: nvidia-nccl-cu13 2.30.7, Linux x86-64. Seen in the library alone, without a GPU.
# Why it matters: the set is copied as a whole, and its comments say that direct paths between GPUs are off. They are not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps nvidia-nccl-cu13==2.30.7

cat >"$folder/names.py" <<'PYTHON'
import re
import sys
from pathlib import Path

[library] = Path(sys.prefix).rglob("libnccl.so.2")
data = library.read_bytes()
names = set(re.findall(rb"NCCL_[A-Z0-9_]+", data))
for name in (
    "NCCL_ALGO", "NCCL_PROTO", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS", "NCCL_NVLS_ENABLE", "NCCL_COLLNET_ENABLE",
    "NCCL_LAUNCH_MODE", "NCCL_NTHREADS", "NCCL_SOCKET_NTHREADS", "NCCL_P2P_DISABLE", "NCCL_P2P_LEVEL",
    "NCCL_P2P_NET_DISABLE",
):
    print(f"{name}: {'known' if name.encode() in names else 'unknown'}")
print("threads:", "multiples alone" if b"Invalid %s %d (must be a multiple of %d)" in data else "any number")
PYTHON

found=$("$folder/venv/bin/python" "$folder/names.py")
echo "$found"
if [ "$(grep -c ': known$' <<<"$found")" = 11 ] && grep -q '^NCCL_P2P_NET_DISABLE: unknown$' <<<"$found" &&
    grep -q '^threads: multiples alone$' <<<"$found"; then
    echo "as described above"
else
    echo "this has changed: the head of this file is out of date" >&2
    exit 1
fi
