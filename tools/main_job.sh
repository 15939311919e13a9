#!/usr/bin/env bash
# The main job on real images, through a real Slurm on this machine: shard, train on 2 nodes x 2 ranks, be preempted,
# resume, stop early, evaluate, report. Under 15 minutes on two cores. Needs root and Slurm (see tools/sandbox).
# Usage: tools/main_job.sh SOURCE [WORK]     SOURCE holds images and a labels CSV (index.csv or labels.csv)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ $# -lt 1 ] || [ ! -d "$1" ]; then
    echo "usage: tools/main_job.sh SOURCE [WORK]     SOURCE is a folder of images with labels.csv or index.csv" >&2
    exit 2
fi
source_dir="$(realpath "$1")"
work="$(realpath -m "${2:-$(mktemp -d)}")"
python="${MRI_PYTHON:-$here/.venv/bin/python}"
sandbox="$here/tools/sandbox/sandbox"
run="$work/runs/main"

say() { printf '\n== %s  [%s s]\n' "$*" "$SECONDS"; }

mkdir -p "$work"
cd "$here"
export MRI_PYTHON="$python" MRI_SOURCE="$source_dir" MRI_STORE="$work/store"
for labels in labels.csv index.csv; do
    if [ -f "$source_dir/$labels" ]; then
        export MRI_LABELS="$source_dir/$labels"
        break
    fi
done

say "a Slurm of 2 nodes"
"$sandbox" up --dir "$work/slurm" --nodes 2 --grace-time 20
trap '"$sandbox" down --dir "$work/slurm"' EXIT
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

say "waiting for epoch 2, then a job of the higher partition takes the nodes"
"$python" - "$run" <<'PY'
import json, pathlib, sys, time
metrics = pathlib.Path(sys.argv[1], "metrics.jsonl")
deadline = time.monotonic() + 600
while time.monotonic() < deadline:
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    if any(json.loads(line)["epoch"] >= 2 for line in lines):
        sys.exit()
    time.sleep(0.5)
sys.exit("no second epoch within 10 minutes")
PY
sbatch --partition=high --nodes=2 --exclusive --time=1 --output=/dev/null --wrap 'sleep 5'
wait "$follower"

say "status, evaluation, report"
"$python" -m mri_hpc.status "$run"
"$python" -m mri_hpc.evaluate "$run"
"$python" -m mri_hpc.report "$run"
say "done: $run/report.html"
