#!/usr/bin/env bash
# The main job on real images, through a real Slurm on this machine: shard, train on 2 nodes x 2 ranks, be preempted,
# resume, stop early, evaluate, report. Under 15 minutes on two cores. Needs root and Slurm (see tools/sandbox).
# Usage: tools/main_job.sh SOURCE [WORK]     SOURCE holds images and a labels CSV (labels.csv or index.csv), whose
#                                            column fold has 3, for validation, 4, for testing, and others
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ $# -lt 1 ] || [ ! -d "$1" ]; then
    echo "usage: tools/main_job.sh SOURCE [WORK]     SOURCE is a folder of images with labels.csv or index.csv, whose" \
        "column fold has 3, for validation, 4, for testing, and others" >&2
    exit 2
fi
source_dir="$(realpath "$1")"
work="$(realpath -m "${2:-$(mktemp -d)}")"
python="${MRI_PYTHON:-$here/.venv/bin/python}"
sandbox="$here/tools/sandbox/sandbox"
run="$work/runs/main"

follower=""

clean_up() {
    # It would wait for a run whose nodes are about to go.
    if [ -n "$follower" ] && kill -0 "$follower" 2>/dev/null; then
        kill "$follower"
        # Its status is that of the kill.
        wait "$follower" || true
    fi
    "$sandbox" down --dir "$work/slurm"
}

check_folds() {
    "$python" -c '
import sys
from pathlib import Path
from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.csv_labels import read_csv
try:
    folds = {label.fold for label in read_csv(Path(sys.argv[1]), Path(sys.argv[2])).rows.values()}
except UserError as error:
    sys.exit(f"tools/main_job.sh: {error}")
if not ({3, 4} <= folds and folds - {-1, 3, 4}):
    found = ", ".join(map(str, sorted(folds - {-1}))) or "none"
    sys.exit(f"tools/main_job.sh: {sys.argv[1]} needs a column fold with 3, 4 and others; found: {found}")
' "$1" "$source_dir" || exit 2
}

say() { printf '\n== %s  [%s s]\n' "$*" "$SECONDS"; }

mkdir -p "$work"
cd "$here"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
export MRI_PYTHON="$python" MRI_SOURCE="$source_dir" MRI_STORE="$work/store"
for labels in labels.csv index.csv; do
    if [ -f "$source_dir/$labels" ]; then
        export MRI_LABELS="$source_dir/$labels"
        break
    fi
done
check_folds "${MRI_LABELS:-$source_dir/labels.csv}"

say "a Slurm of 2 nodes"
"$sandbox" up --dir "$work/slurm" --nodes 2 --grace-time 20
trap clean_up EXIT
eval "$("$sandbox" env --dir "$work/slurm")"

say "preprocessing by an array of 4 tasks"
sbatch --wait --output="$work/preprocess-%a.out" hpc/slurm/preprocess_array.sh --size 96 --ids as-given || {
    cat "$work"/preprocess-*.out >&2
    exit 1
}
tail -qn 1 "$work"/preprocess-*.out
"$python" -m mri_hpc.store info "$MRI_STORE"

say "training on 2 nodes x 2 ranks"
"$python" -m mri_hpc.launch --store "$MRI_STORE" --run "$run" --nodes 2 --tasks-per-node 2 --gpus-per-node 0 \
    --cpus-per-task 1 --time-limit-min 30 --val-fold 3 --test-fold 4 --batch-size 64 --lr 0.0005 \
    --epochs 40 --schedule-epochs 14 --patience 5 --min-improvement 0.005
"$python" -m mri_hpc.launch --store "$MRI_STORE" --run "$run" --wait &
follower=$!

say "waiting for the middle of epoch 3, then a job of the higher partition takes the nodes"
timeout --foreground 600 "$python" tools/mid_epoch.py "$run" 3
sbatch --partition=high --nodes=2 --exclusive --time=1 --output=/dev/null --wrap 'sleep 5'
wait "$follower"

say "status, evaluation, report"
"$python" -m mri_hpc.status "$run"
"$python" -m mri_hpc.evaluate "$run"
"$python" -m mri_hpc.report "$run"
say "done: $run/report.html"
