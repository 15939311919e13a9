#!/bin/bash
# The python inside an Apptainer image, for sites that want containers: on the login node and in jobs alike.
#
#   export MRI_IMAGE=/project/mri/mri_hpc.sif MRI_PYTHON="$PWD/hpc/slurm/apptainer_python.sh"
#   sbatch hpc/slurm/preprocess_array.sh
#   "$MRI_PYTHON" -m mri_hpc.launch --nodes 2
#
# The batch script runs on the node itself and starts this by MRI_PYTHON: before the ranks, as each rank, and after
# them. launch submits, and the batch script requeues, from inside: so Slurm's commands and its way to the controller
# are shown to the container. MRI_SLURM_BIND names other paths than those below, separated by commas; the image's
# Linux should be about as new as the node's, for the commands bring their libraries. Ask your site whether its own
# wrapper does this already.
set -euo pipefail
: "${MRI_IMAGE:?names the Apptainer image; see hpc/slurm/site.env}"

slurm_paths=(/etc/slurm /etc/slurm-llnl /run/munge /run/slurm /usr/lib64/slurm /usr/lib/x86_64-linux-gnu/slurm-wlm
    /usr/lib/x86_64-linux-gnu/slurm /usr/lib64/libmunge.so.2 /usr/lib/x86_64-linux-gnu/libmunge.so.2 /opt/slurm)
for command in sbatch srun scontrol sacct sinfo scancel; do
    if path="$(command -v "$command")"; then slurm_paths+=("$path"); fi
done
if [ -n "${MRI_SLURM_BIND:-}" ]; then IFS=, read -r -a slurm_paths <<<"$MRI_SLURM_BIND"; fi

binds=()
for path in "${slurm_paths[@]}"; do
    if [ -e "$path" ]; then binds+=(--bind "$path"); fi
done
gpus=()
if [ -e /dev/nvidiactl ]; then gpus=(--nv); fi

# exec: Slurm's signals reach the rank itself. --pwd: the container starts where this was called.
exec "${MRI_APPTAINER:-apptainer}" exec --pwd "$PWD" ${gpus[@]+"${gpus[@]}"} ${binds[@]+"${binds[@]}"} \
    "$MRI_IMAGE" python3 "$@"
