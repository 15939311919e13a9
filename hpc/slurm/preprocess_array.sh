#!/bin/bash
# Shards the images below data/raw into the store at data/store: any number of tasks, each image once.
#
#   sbatch hpc/slurm/preprocess_array.sh                          4 tasks
#   sbatch --array=0-63 hpc/slurm/preprocess_array.sh --size 128  64 tasks; options go to mri-hpc preprocess
#   bash hpc/slurm/preprocess_array.sh                            one task, here
#
# MRI_SOURCE, MRI_STORE, MRI_LABELS (a CSV) say where the data are; MRI_PYTHON which python runs.
# Run it again whenever images have arrived, or a task was lost: it stores what is new. `source
# hpc/slurm/site.env` first where the site wants an account or a partition.
#
# Slurm drops a job without a word where the folder of its output is missing: so this goes to the
# folder of submission, which is there.
#SBATCH --job-name=preprocess
#SBATCH --array=0-3
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.out
set -euo pipefail

# sbatch runs a copy of this file, so it cannot find the project beside itself.
cd "${SLURM_SUBMIT_DIR:-$PWD}"
if [[ -z "${MRI_PYTHON:-}" ]]; then
  MRI_PYTHON=python3
  [[ -x .venv/bin/python ]] && MRI_PYTHON="$PWD/.venv/bin/python"
fi
# Empty arrays are unset variables to bash before 4.4, hence the + below.
labels=()
[[ -n "${MRI_LABELS:-}" ]] && labels=(--labels "$MRI_LABELS")

# exec: Slurm's signals reach python, which then stops between two images.
exec "$MRI_PYTHON" -m mri_hpc.preprocess \
  --source "${MRI_SOURCE:-data/raw}" --store "${MRI_STORE:-data/store}" ${labels[@]+"${labels[@]}"} "$@"
