#!/usr/bin/env bash
# Installs mri_hpc for a cluster: once, on a login node, into a folder that the compute nodes see too.
#
#   bash tools/install_cluster.sh                                   python3 of this shell, environment in .venv
#   bash tools/install_cluster.sh --module languages/python/3.11    python of a module
#   bash tools/install_cluster.sh --conda                           python 3.11 from conda or mamba
#
#   --python PATH   another python to make the environment with
#   --env DIR       where the environment goes; by default .venv, where hpc/slurm/*.sh look for it
#   --lock          the very files of requirements.lock, by their hashes, with which the tests passed
#   --gpu WHICH     the lock whose torch runs on these GPUs: a name (p100, v100, a100, ...), a compute capability
#                   (7.0), or ask: a job of one minute asks a node, by the SBATCH_ variables of this shell
#   --driver NUMBER the nodes' driver, as nvidia-smi says there (535.183.01); with --gpu ask, the job says it
#   --preprocess-only  for preprocess and store alone, without torch: the files of requirements-preprocess.lock
#   --dry-run       only show what would be done
#
# Login nodes seldom have a GPU. That is no matter: on Linux, pip's ordinary torch is the one for CUDA, and brings
# CUDA's libraries along: for GPUs from the T4 on (compute capability 7.5), with a driver from 580 on. Other GPUs and
# drivers want another torch: --gpu and --driver choose it. Run it again to update: what fits is kept.
# The download is large: where the home folder is small, set PIP_CACHE_DIR and TMPDIR to folders with 10 GB first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LEAST_PYTHON=3.11
# What the drivers of CUDA 13 and CUDA 12 begin with.
DRIVER_OF_CUDA_13=580 DRIVER_OF_CUDA_12=525
GPU_JOB_S=600
how=venv module_name="" python=python3 environment=.venv is_locked="" is_small="" is_dry="" gpu="" driver=""
lock="" torch_files=""

complain() {
    echo "tools/install_cluster.sh: $*" >&2
    exit 2
}

usage() {
    sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "tools/install_cluster.sh"
}

read_options() {
    while [ $# -gt 0 ]; do
        case "$1" in
            --module | --python | --env | --gpu | --driver)
                [ $# -ge 2 ] || complain "$1 needs a value; see --help"
                case "$1" in
                    --module) how=module module_name="$2" ;;
                    --python) python="$2" ;;
                    --env) environment="$2" ;;
                    --gpu) gpu="$2" ;;
                    --driver) driver="$2" ;;
                esac
                shift 2
                ;;
            --conda) how=conda && shift ;;
            --lock) is_locked=1 && shift ;;
            --preprocess-only) is_small=1 && shift ;;
            --dry-run) is_dry=1 && shift ;;
            -h | --help) usage && exit 0 ;;
            *) complain "unknown option $1; see --help" ;;
        esac
    done
    case "$environment" in /*) ;; *) environment="$PWD/$environment" ;; esac
}

# Sets $lock, or $torch_files where no lock has such a torch.
choose_files() {
    [ -z "$is_locked" ] || lock=requirements.lock
    if [ -n "$is_small" ]; then
        lock=requirements-preprocess.lock
        return
    fi
    if [ -z "$gpu" ]; then
        [ -z "$driver" ] || complain "--driver needs --gpu WHICH; see --help"
        return
    fi
    local capability
    if [ "$gpu" = ask ]; then ask_a_node; fi
    capability="$(capability_of "$gpu")" || complain "--gpu $gpu is no GPU known here: give its compute capability, such as 7.0"
    case "$driver" in
        "" | [1-9]*) ;;
        *) complain "--driver $driver is no number such as 535.183.01" ;;
    esac
    local number=$((${capability%.*} * 10 + ${capability#*.})) major="${driver%%.*}"
    [ "${major:-$DRIVER_OF_CUDA_12}" -ge "$DRIVER_OF_CUDA_12" ] ||
        complain "driver $driver is older than $DRIVER_OF_CUDA_12, and no torch from 2.8 on runs with it: ask your site for a newer one"
    if [ "$number" -ge 75 ] && [ "${major:-$DRIVER_OF_CUDA_13}" -ge "$DRIVER_OF_CUDA_13" ]; then
        lock=requirements.lock
        [ -n "$driver" ] || echo "its torch needs a driver from $DRIVER_OF_CUDA_13 on; where nodes have an older one, say so: --driver"
    elif [ "$number" -ge 70 ]; then
        lock=requirements-cuda12.lock
    elif [ "$number" -ge 50 ]; then
        lock="" torch_files=https://download.pytorch.org/whl/cu126
    else
        complain "compute capability $capability is too old for every torch from 2.8 on"
    fi
    echo "compute capability $capability, driver ${driver:-unknown}: ${lock:-torch 2.10 of $torch_files, by no lock}"
}

capability_of() {
    case "${1,,}" in
        [1-9].[0-9] | 1[0-9].[0-9]) echo "$1" ;;
        k80) echo 3.7 ;;
        m40 | m60 | "gtx 9"*) echo 5.2 ;;
        p100) echo 6.0 ;;
        p4 | p40 | "gtx 1"*) echo 6.1 ;;
        v100) echo 7.0 ;;
        t4 | rtx6000 | rtx8000 | "rtx 20"*) echo 7.5 ;;
        a100 | a30) echo 8.0 ;;
        a2 | a10 | a16 | a40 | a6000 | "rtx 30"*) echo 8.6 ;;
        l4 | l40 | l40s | "rtx 40"*) echo 8.9 ;;
        h100 | h200 | gh200) echo 9.0 ;;
        b200 | gb200) echo 10.0 ;;
        *) return 1 ;;
    esac
}

# Sets $gpu and $driver to what a GPU node says. A job that never ran says nothing, whatever sbatch's status is.
ask_a_node() {
    command -v sbatch >/dev/null || complain "--gpu ask needs Slurm's sbatch here: give a name instead, such as --gpu a100"
    local answer
    answer="$(mktemp "$PWD/.gpu-XXXXXX")"
    # shellcheck disable=SC2064
    trap "rm -f $(printf '%q' "$answer")" EXIT
    local question=(nvidia-smi --query-gpu=compute_cap,driver_version --format=csv,noheader)
    local job=(sbatch --wait --time=1 --nodes=1 --ntasks=1 --gres=gpu:1 --job-name=which-gpu --output="$answer" --wrap "${question[*]}")
    run timeout "$GPU_JOB_S" "${job[@]}" || true
    if [ -n "$is_dry" ]; then
        gpu=9.0
        return
    fi
    # Of several kinds of GPU on a node, the oldest.
    IFS=", " read -r gpu driver <<<"$(grep -E '^[0-9]+\.[0-9], [0-9.]+$' "$answer" | sort -V | head -n 1)" || true
    [ -n "$gpu" ] || complain "no GPU node answered within $GPU_JOB_S s; the job said: $(tail -n 1 "$answer"). Give the name: --gpu a100"
}

# Shows a command, and runs it unless this is a dry run.
run() {
    printf '+ %s\n' "$(printf '%q ' "$@")"
    [ -n "$is_dry" ] || "$@"
}

warn_of_local_folder() {
    case "$environment/" in
        /tmp/* | /var/tmp/* | /dev/shm/* | /local/* | /scratch/local/*)
            echo "warning: $environment is on this machine alone: compute nodes will not find it; choose --env" >&2
            ;;
    esac
}

load_module() {
    # Exported by interactive shells only, in some sites.
    if ! type module >/dev/null 2>&1; then
        for file in /etc/profile.d/lmod.sh /etc/profile.d/modules.sh /usr/share/lmod/lmod/init/bash; do
            # shellcheck disable=SC1090
            if [ -r "$file" ]; then set +u && . "$file" && set -u && break; fi
        done
    fi
    type module >/dev/null 2>&1 || complain "there is no 'module' here; leave --module out, or use --conda"
    set +u
    run module load "$module_name" || complain "module load $module_name failed; see: module avail python"
    set -u
}

make_environment() {
    if [ -x "$environment/bin/python" ]; then
        echo "environment: $environment (there already)"
    elif [ "$how" = conda ]; then
        local conda
        conda="$(command -v mamba || command -v conda)" ||
            complain "neither conda nor mamba is on the PATH; load its module"
        run "$conda" create --yes --quiet --prefix "$environment" "python=$LEAST_PYTHON" pip
    else
        command -v "$python" >/dev/null || complain "$python is not on the PATH; use --module, --conda or --python PATH"
        check_python "$python"
        run "$python" -m venv "$environment" ||
            complain "$python -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    if [ -x "$environment/bin/python" ]; then check_python "$environment/bin/python"; fi
}

check_python() {
    "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$LEAST_PYTHON'.split('.'))))" ||
        complain "$1 is $("$1" --version 2>&1), and $LEAST_PYTHON is needed: use --module, --conda or --python PATH"
}

install_project() {
    local pip=("$environment/bin/python" -m pip --disable-pip-version-check)
    # What an earlier version left there would be installed again.
    run rm -rf build/lib
    if [ -n "$torch_files" ]; then
        run "${pip[@]}" install --quiet --index-url "$torch_files" "torch==2.10.*" "torchvision==0.25.*"
    fi
    if [ -z "$lock" ]; then
        run "${pip[@]}" install --quiet .
    else
        run "${pip[@]}" install --quiet --require-hashes --requirement "$lock"
        run "${pip[@]}" install --quiet --no-deps .
    fi
}

check_imports() {
    echo "+ check that all imports work"
    [ -z "$is_dry" ] || return 0
    # From another folder: what was installed, not what lies here.
    local imports="
import cv2, h5py, simplejpeg
import mri_hpc.preprocess, mri_hpc.store
"
    [ -n "$is_small" ] || imports+="
import matplotlib, safetensors, submitit, tensorboard, torch, torchvision
import mri_hpc.launch, mri_hpc.train
print('torch', torch.__version__, 'for CUDA', torch.version.cuda)
if not torch.version.cuda:
    print('warning: this torch knows no GPU: pip is set to a source of CPU builds; install torch from the ordinary one')
"
    (cd / && "$environment/bin/python" -c "$imports
print('imports work')") || complain "an import failed, as said above: make the environment anew, rm -r $environment, and run this again"
}

say_what_next() {
    local load="" enter
    [ "$how" = module ] && load="module load $module_name && "
    enter="source $(printf '%q' "$environment")/bin/activate"
    [ "$how" = conda ] && enter="conda activate $(printf '%q' "$environment")"
    cat <<NEXT

Next, in a new shell:
  cd $(printf '%q' "$PWD")
  ${load}${enter}
  source hpc/slurm/site.env                        # edit it first: account, partition${load:+, module}
  sbatch hpc/slurm/preprocess_array.sh             # data/raw -> data/store
NEXT
    [ -n "$is_small" ] || echo "  python -m mri_hpc.launch --nodes 1               # data/store -> runs/NAME"
    if [ "$environment" != "$PWD/.venv" ]; then
        echo "and in hpc/slurm/site.env: export MRI_PYTHON=$(printf '%q' "$environment/bin/python")"
    fi
}

read_options "$@"
warn_of_local_folder
choose_files
if [ "$how" = module ]; then load_module; fi
make_environment
install_project
check_imports
say_what_next
