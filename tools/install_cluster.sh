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
#   --preprocess-only  for preprocess and store alone, without torch: the files of requirements-preprocess.lock
#   --dry-run       only show what would be done
#
# Login nodes seldom have a GPU. That is no matter: on Linux, pip's ordinary torch is the one for CUDA, and brings
# CUDA's libraries along. GPUs or drivers too old for it want an older torch: install that into the environment first
# (2.8 or newer, as PyTorch's site says), then run this without --lock. Run it again to update: what fits is kept.
# The download is large: where the home folder is small, set PIP_CACHE_DIR and TMPDIR to folders with 10 GB first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LEAST_PYTHON=3.11
how=venv module_name="" python=python3 environment=.venv is_locked="" is_small="" is_dry=""

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
            --module | --python | --env)
                [ $# -ge 2 ] || complain "$1 needs a value; see --help"
                case "$1" in
                    --module) how=module module_name="$2" ;;
                    --python) python="$2" ;;
                    --env) environment="$2" ;;
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
    local lock=""
    [ -z "$is_locked" ] || lock=requirements.lock
    [ -z "$is_small" ] || lock=requirements-preprocess.lock
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
if [ "$how" = module ]; then load_module; fi
make_environment
install_project
check_imports
say_what_next
