#!/bin/bash
# From images to a trained model in one go: four jobs, each started by Slurm when the one before has succeeded.
#
#   bash hpc/slurm/pipeline.sh                                      data/raw -> data/store -> runs/NAME
#   bash hpc/slurm/pipeline.sh --size 128 -- --nodes 2 --lr 0.0005  options of preprocess -- options of launch
#   bash hpc/slurm/pipeline.sh --follow -- --start-classes 4        trains while the array still adds images
#
#   preprocess   an array of MRI_TASKS tasks (4) adds what is new to the store
#   compact      merges small chunks into large ones
#   audit        looks for patients, files and slices (by their looks) that would leak from one split into another:
#                then nothing is launched
#   launch       submits, or resumes, the run: a job of its own, on GPUs where the partition has them
#
# With --follow, its first word, training begins as soon as the store has enough (launch's --start-images of each of
# --start-classes) and follows the store; a fifth job looks whether it has, or whether a run that has caught up has
# more to learn, and submits itself again in MRI_LOOK_MIN (5) minutes, for as long as the array is in the queue: it
# holds no GPU, and nothing waits for it. `launch` at the end tells the run to take the newest images, and to finish.
#
# MRI_SOURCE, MRI_STORE, MRI_LABELS, MRI_PYTHON as in preprocess_array.sh; `source hpc/slurm/site.env` first. Run it
# again whenever images have arrived, or a stage has failed: what is done already costs little.
# Where a stage fails, those after it vanish from squeue without a word: the .out of the stage that failed says why.
# launch runs in a small job of its own, which most clusters allow to submit another. Where compute nodes may not:
#   MRI_LAUNCH=here bash hpc/slurm/pipeline.sh ...                  waits for the audit, and launches from this shell
# Where the audit finds what you know of and accept, such as doubles in images that name no patient:
#   MRI_AUDIT=report bash hpc/slurm/pipeline.sh ...                 the audit only reports, and what follows goes on
set -euo pipefail

# In a job: sbatch runs a copy of this file, with the name of the stage as its first word.
stage=""
if [[ "${1:-}" == --stage=* ]]; then
    stage="${1#--stage=}"
    shift
    cd "$SLURM_SUBMIT_DIR"
fi
store="${MRI_STORE:-data/store}"
if [[ -z "${MRI_PYTHON:-}" ]]; then
    MRI_PYTHON=python3
    [[ -x .venv/bin/python ]] && MRI_PYTHON="$PWD/.venv/bin/python"
fi

small=(--ntasks=1 --cpus-per-task=1 --time=04:00:00 --requeue --open-mode=append --output=%x-%j.out)
here=hpc/slurm
# What users have squeue show by default may leave jobs out.
unset "${!SQUEUE_@}"

# What the audit leaves where it passed: sbatch --wait ends with 0 also for a job that never started.
passed="pipeline: the audit has passed"

# is_gone JOB: Slurm answers that no such job is in the queue. Without an answer that is not known.
is_gone() {
    local queued complaint
    if queued="$(squeue --noheader --jobs="$1" 2>/dev/null)"; then
        [[ -z "$queued" ]]
        return
    fi
    # Minutes after its end it is forgotten.
    complaint="$(squeue --noheader --jobs="$1" 2>&1 >/dev/null || true)"
    [[ "$complaint" == *"Invalid job id"* ]]
}

# has_later NAME: Slurm names a later job of that name than this one. An sbatch that failed may have been heard all the
# same, and a job that is requeued may have submitted the next one: of two that look at once, the earlier leaves.
has_later() {
    local job jobs
    # Without an answer none is known.
    jobs="$(squeue --noheader --name="$1" --format=%A 2>/dev/null)" || return 1
    for job in $jobs; do
        if [[ "$job" -gt "${SLURM_JOB_ID:-0}" ]]; then return 0; fi
    done
    return 1
}

case "$stage" in
    compact) exec "$MRI_PYTHON" -m mri_hpc.store compact "$store" ;;
    audit)
        options=()
        if [[ "${MRI_AUDIT:-}" == report ]]; then options=(--report-only); fi
        if "$MRI_PYTHON" -m mri_hpc.store audit "$store" ${options[@]+"${options[@]}"}; then
            echo "$passed"
            exit 0
        fi
        echo "pipeline: the audit did not pass: nothing is launched. Fix what it names, then run the pipeline again;" \
            "MRI_AUDIT=report goes on where it finds leaks."
        exit 2
        ;;
    launch) exec "$MRI_PYTHON" -m mri_hpc.launch --store "$store" "$@" ;;
    follow)
        array="$1"
        shift
        # Once the array has gone, the last stage has the rest: a launch behind it would begin to follow again.
        if is_gone "$array" || has_later "follow-$array"; then exit 0; fi
        "$MRI_PYTHON" -m mri_hpc.launch --store "$store" --follow "$@" || echo "pipeline: again in a while"
        for try in {1..10}; do
            if [[ "$try" -gt 1 ]]; then sleep 40; fi
            if has_later "follow-$array"; then exit 0; fi
            if sbatch --begin="now+${MRI_LOOK_MIN:-5}minutes" --job-name="follow-$array" "${small[@]}" \
                "$here/pipeline.sh" --stage=follow "$array" "$@"; then exit 0; fi
        done
        echo "pipeline: Slurm has taken no further job in 6 minutes: until the last stage, which tells the run to" \
            "finish, nothing launches it again; to have it go on before, type this launch yourself, with --follow"
        exit 2
        ;;
esac

for word in "$@"; do
    if [[ "$word" == -h || "$word" == --help ]]; then
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        exit 0
    fi
done

preprocess_options=() launch_options=() last_options=()
is_following=""
if [[ "${1:-}" == --follow ]]; then
    is_following=1
    # The same run by its name: what follows is part of it.
    last_options=(--snapshot follow --no-follow)
    shift
    if [[ "${MRI_LAUNCH:-}" == here ]]; then
        echo "pipeline: --follow launches from jobs, MRI_LAUNCH=here from this shell: leave one of them out" >&2
        exit 2
    fi
fi
while [[ $# -gt 0 && "$1" != -- ]]; do preprocess_options+=("$1") && shift; done
if [[ $# -gt 0 ]]; then shift && launch_options=("$@"); fi

# submit NAME AFTER COMMAND...: submits a stage; its number, then in `job`. A stage whose turn can no longer come goes.
submit() {
    local name="$1" after="$2" options=()
    shift 2
    [[ -z "$after" ]] || options=("--dependency=afterok:$after" --kill-on-invalid-dep=yes)
    job="$(sbatch --parsable --job-name="$name" ${options[@]+"${options[@]}"} "$@")" || return
    job="${job%%;*}"
}

submit preprocess "" --array="0-$((${MRI_TASKS:-4} - 1))" "$here/preprocess_array.sh" \
    ${preprocess_options[@]+"${preprocess_options[@]}"}
echo "preprocess  job $job, preprocess-${job}_*.out"
if [[ -n "$is_following" ]]; then
    array="$job"
    # Once its first task has begun.
    follow="$(sbatch --parsable --job-name="follow-$array" "--dependency=after:${array}_0" --kill-on-invalid-dep=yes \
        "${small[@]}" "$here/pipeline.sh" --stage=follow "$array" ${launch_options[@]+"${launch_options[@]}"})"
    echo "follow      job ${follow%%;*}, follow-$array-*.out: starts training, and comes again every" \
        "${MRI_LOOK_MIN:-5} minutes"
fi
submit compact "$job" "${small[@]}" "$here/pipeline.sh" --stage=compact
echo "compact     job $job, compact-$job.out"

if [[ "${MRI_LAUNCH:-}" == here ]]; then
    echo "audit       waiting for it; then the run is launched from here"
    if ! submit audit "$job" --wait "${small[@]}" "$here/pipeline.sh" --stage=audit ||
        ! grep -sqxF "$passed" "audit-$job.out"; then
        echo "pipeline: an earlier stage or the audit failed: nothing is launched; see the newest *.out here" >&2
        exit 2
    fi
    exec "$MRI_PYTHON" -m mri_hpc.launch --store "$store" ${launch_options[@]+"${launch_options[@]}"}
fi
submit audit "$job" "${small[@]}" "$here/pipeline.sh" --stage=audit
echo "audit       job $job, audit-$job.out: where it finds a leak, this says which, and nothing is launched"
submit launch "$job" "${small[@]}" "$here/pipeline.sh" --stage=launch ${launch_options[@]+"${launch_options[@]}"} \
    ${last_options[@]+"${last_options[@]}"}
echo "launch      job $job, launch-$job.out: names the run, and how to watch it"
echo "A stage that fails says why in its .out; those after it are then taken out of the queue."
