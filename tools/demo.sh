#!/usr/bin/env bash
# The whole path on this machine, on brain phantoms: install, shard, train on two ranks, have the job taken away in
# mid-epoch, resume, stop early, evaluate, report. No root, no Slurm; under 6 minutes on two cores, downloads apart.
# Usage: bash tools/demo.sh [--slurm] [FOLDER]
#   --slurm      the same through a real Slurm on this machine, with a job that preempts; needs root (see tools/sandbox)
#   FOLDER       where everything goes (demo), but for Slurm's own files; what an earlier demo left there is replaced
#   MRI_PYTHON   a python that has what mri_hpc needs; without it, .venv is made and mri_hpc installed in it
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tasks=3
system=local
# More threads than cores slow two ranks down.
export OMP_NUM_THREADS=1
# This project, whatever version of it that python may have besides.
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

main() {
    read_arguments "$@"
    make_environment
    claim_folder
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    trap 'echo "tools/demo.sh: this failed: $BASH_COMMAND" >&2' ERR

    say "brain phantoms: heads drawn from formulas, not patients; the figures below mean nothing clinically"
    "$python" tools/phantoms.py "$work/raw" --patients 24 --size 96

    say "$tasks tasks at once shard the images into one store"
    "preprocess_$system"
    "$python" -m mri_hpc.store info "$work/store"

    say "two ranks train; in mid-epoch their job will be taken away"
    launch
    "$python" tools/mid_epoch.py "$run" 2

    say "the job is taken away; the run saves, comes back by itself, and goes on at the next sample"
    "take_away_$system"
    launch --wait

    say "how it went"
    "$python" -m mri_hpc.status "$run"
    "$python" -m mri_hpc.evaluate "$run"
    "$python" -m mri_hpc.report "$run"
    say "done. These were phantoms: the figures show that the path works, and nothing else. The report:"
    echo "$run/report.html"
}

say() { printf '\n== %s  [%s s]\n' "$*" "$SECONDS"; }

fail() {
    echo "tools/demo.sh: $*" >&2
    exit 2
}

read_arguments() {
    local folder=""
    for argument in "$@"; do
        case "$argument" in
            --slurm) system=slurm ;;
            -*) fail "$argument is no option; usage: bash tools/demo.sh [--slurm] [FOLDER]" ;;
            *)
                [ -z "$folder" ] || fail "one folder is enough; usage: bash tools/demo.sh [--slurm] [FOLDER]"
                folder="$argument"
                ;;
        esac
    done
    work="$(realpath -m -- "${folder:-$here/demo}")"
    run="$work/runs/demo"
    # From here on paths are whole, and the project's own files are near.
    cd "$here"
    if [ "$system" = slurm ] && { [ "$(id -u)" != 0 ] || ! command -v slurmctld >/dev/null; }; then
        fail "--slurm needs root and Slurm (tools/sandbox/README.md says what to install); without it: bash tools/demo.sh"
    fi
}

# Sets $python.
make_environment() {
    if [ -n "${MRI_PYTHON:-}" ]; then
        python="$MRI_PYTHON"
        command -v "$python" >/dev/null || fail "MRI_PYTHON=$python is no program that this user may start"
        "$python" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("torch") and u.find_spec("h5py")))' ||
            fail "MRI_PYTHON=$python is no python that has what mri_hpc needs: leave it out, and .venv is made"
        return
    fi
    python="$here/.venv/bin/python"
    # -I: installed, not just lying in this folder.
    if "$python" -I -c 'import importlib.metadata as m; m.version("mri_hpc")' 2>/dev/null; then
        return
    fi
    command -v python3 >/dev/null || fail "there is no python3; on Debian and Ubuntu: apt-get install python3 python3-venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$(python3 --version) is too old: Python 3.11 or newer is needed"
    # Without it, venv leaves half an environment behind.
    python3 -c 'import ensurepip' 2>/dev/null ||
        fail "python3 cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
    say "installing into .venv: this downloads a few GB, most of it torch; for some minutes nothing is printed"
    python3 -m venv .venv
    "$python" -m pip install --quiet --disable-pip-version-check --editable . ||
        fail "installing failed; once the above is fixed, run this again: it goes on from here"
}

# A folder of an earlier demo is emptied; any other that holds something is left alone.
claim_folder() {
    if [ -d "$work" ] && [ ! -e "$work/.demo" ] && [ -n "$(ls -A "$work")" ]; then
        fail "$work holds other things: give another folder, bash tools/demo.sh FOLDER"
    fi
    mkdir -p "$work" 2>/dev/null && [ -w "$work" ] ||
        fail "$work cannot be written to: give another folder, bash tools/demo.sh FOLDER"
    exec 9>>"$work/.demo"
    flock --nonblock 9 || fail "another demo is at work in $work: wait for it, or give another folder"
    end_run
    rm -rf "${work:?}"/{raw,store,runs,slurm,preprocess-*.out}
    # Fonts that the report's figures look for, and not into the user's home.
    export MPLCONFIGDIR="$work/cache"
}

preprocess_local() {
    local task pids=() status=0
    for ((task = 0; task < tasks; task++)); do
        preprocess --task "$task" --tasks "$tasks" >"$work/preprocess-$task.out" 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || status=$?
    done
    show_shares "$status"
}

preprocess_slurm() {
    # Slurm's files cannot name a path with a blank, nor its sockets a long one.
    local box
    box="$(mktemp -d "${TMPDIR:-/tmp}/mri-demo-XXXXXX")"
    ln -s "$box" "$work/slurm"
    tools/sandbox/sandbox up --dir "$work/slurm" --nodes 2 --grace-time 20
    eval "$(tools/sandbox/sandbox env --dir "$work/slurm")"
    local status=0
    MRI_PYTHON="$python" MRI_SOURCE="$work/raw" MRI_STORE="$work/store" \
        sbatch --wait --array="0-$((tasks - 1))" --output="$work/preprocess-%a.out" \
        hpc/slurm/preprocess_array.sh --size 64 --ids as-given || status=$?
    show_shares "$status"
}

preprocess() {
    exec "$python" -m mri_hpc.preprocess --source "$work/raw" --store "$work/store" --size 64 --ids as-given "$@"
}

show_shares() {
    if [ "$1" != 0 ]; then
        cat "$work"/preprocess-*.out >&2
        fail "preprocessing failed: see above"
    fi
    tail -qn 1 "$work"/preprocess-*.out
}

launch() {
    "$python" -m mri_hpc.launch --store "$work/store" --run "$run" --nodes 2 --tasks-per-node 1 --gpus-per-node 0 \
        --cpus-per-task 1 --cluster "$system" --batch-size 32 --lr 0.001 --epochs 30 --schedule-epochs 12 \
        --patience 3 --min-improvement 0.01 --recipe fast "$@"
}

# As Slurm does it to a job: SIGTERM to its ranks, whose supervisor then asks what happened.
take_away_local() {
    local supervisor ranks
    supervisor="$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["pid"])' "$run/attempts/1.0/job.json")"
    # That file has no end of line, which read calls a failure.
    read -ra ranks <"/proc/$supervisor/task/$supervisor/children" || [ -n "${ranks[*]}" ]
    echo "SIGTERM to the ranks, processes ${ranks[*]}"
    kill -TERM "${ranks[@]}"
}

take_away_slurm() {
    sbatch --partition=high --nodes=2 --exclusive --time=1 --output=/dev/null --wrap 'sleep 5'
}

# Ends what runs on its own: the run's job, which a lost terminal would not.
end_run() {
    if [ -e "$run/settings.toml" ] && [ ! -e "$run/DONE" ]; then
        echo "ending the unfinished run"
        "$python" -m mri_hpc.launch --run "$run" --cancel ||
            echo "tools/demo.sh: the run in $run may still be at work: see the line above" >&2
    fi
    if [ -e "$work/slurm" ]; then
        tools/sandbox/sandbox down --dir "$work/slurm"
    fi
    rm -f "$work/slurm"
}

clean_up() {
    trap '' INT TERM HUP
    # Tasks that shard: they end between two images.
    local pid
    for pid in $(jobs -p); do
        if kill -0 "$pid" 2>/dev/null; then kill "$pid"; fi
    done
    wait
    end_run
}

main "$@"
