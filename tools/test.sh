#!/usr/bin/env bash
# Make .venv, install mri_hpc with what its tests need (Slurm and the like, where we are root on Debian or Ubuntu), run the tests.
# Usage: bash tools/test.sh [pytest options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in -h | --help) sed -n '2,3s/^# //p' tools/test.sh && exit 0 ;; esac

SLURM_PACKAGES=(slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core iproute2 nftables)
# A trace of the kernel's calls, and file systems with a quota and without links.
DISK_PACKAGES=(strace btrfs-progs exfatprogs exfat-fuse)

make_environment() {
    if [ ! -x .venv/bin/python ]; then
        python3 -m venv .venv || {
            echo "tools/test.sh: python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 2
        }
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
}

install_packages() {
    local packages=("${SLURM_PACKAGES[@]}" "${DISK_PACKAGES[@]}")
    if dpkg -s "${packages[@]}" >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "tools/test.sh: Slurm and the like are not here, and installing them needs root and apt-get: tests with them are skipped" >&2
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --yes --no-install-recommends "${packages[@]}" >/dev/null
}

make_environment
install_packages
# Several ranks share few cores in the tests: more threads than cores slow every one of them down.
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest "$@"
