#!/usr/bin/env bash
# Make .venv, install mri_hpc with what its tests need (Slurm too, where we are root on Debian or Ubuntu), run the tests.
# Usage: bash tools/test.sh [pytest options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in -h | --help) sed -n '2,3s/^# //p' tools/test.sh && exit 0 ;; esac

SLURM_PACKAGES=(slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core iproute2)

make_environment() {
    if [ ! -x .venv/bin/python ]; then
        python3 -m venv .venv || {
            echo "tools/test.sh: python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 2
        }
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
}

install_slurm() {
    if dpkg -s "${SLURM_PACKAGES[@]}" >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "tools/test.sh: no Slurm here, and installing it needs root and apt-get: tests against it are skipped" >&2
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --yes --no-install-recommends "${SLURM_PACKAGES[@]}" >/dev/null
}

make_environment
install_slurm
# Several ranks share few cores in the tests: more threads than cores slow every one of them down.
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest "$@"
