"""The submission of a run's job to Slurm, by submitit."""

import contextlib
import getpass
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import AGAIN
from mri_hpc.cluster import expediting, sbatch_options, slurm
from mri_hpc.cluster.batch import GAVE_UP, MAILS, MAY_NOT_START, REFUSED, REQUEUE_BY_SHELL, SHELL_HAS_SCONTROL
from mri_hpc.cluster.jobs import Job, slurm_job
from mri_hpc.cluster.node_answers import question_lines
from mri_hpc.cluster.outcome import OWN_WORDS
from mri_hpc.cluster.rank import RankStart
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.settings import JobSettings, load_training

RECIPE = "recipe.json"
"""Of a store, its first file."""


class Executor(submitit.SlurmExecutor):
    """submitit's, except that variables of the shell do not overrule what the user asked for."""

    without: tuple[str, ...] = ()
    """Options that the user wants none of, whatever the shell says."""

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        options = [key.replace("_", "-") for key in self.parameters.get("additional_parameters", {})]
        options += [
            key.replace("_", "-")
            for key in ("partition", "account", "qos", "constraint", "mem", "gpus_per_node")
            if key in self.parameters
        ]
        options += ["time", "signal", "job-name", "error", *self.without]
        unset = [f"--unset={name}" for name in sbatch_options.weaker_variables(options)]
        return ["env", *unset, "sbatch", str(submission_file_path)]

    def script(self) -> str:
        """Return the batch script that would be submitted."""
        return str(self._make_submission_file_text(self._submitit_command_str, uid=""))


def submit(
    run: RunDir,
    submission: int,
    settings: JobSettings,
    *,
    ranks_per_node: int,
    gpus: int,
    module: str,
    question: Sequence[str] = (),
) -> Job:
    """Hand the run's job to Slurm; UserError with Slurm's own words where it is refused.

    module: as of `RankStart`. question: as of `Program`.
    """
    executor = _executor(
        run, submission, settings, ranks_per_node=ranks_per_node, gpus=gpus, question=question
    )
    start = RankStart(run=str(run.path), submission=submission, module=module)
    run.submitit.mkdir(parents=True, exist_ok=True)
    try:
        # submitit prints Slurm's complaint, which the error below carries.
        with contextlib.redirect_stderr(io.StringIO()):
            job_id = executor.submit(start).job_id
    except (FailedJobError, FailedSubmissionError) as error:
        complaint = _essence(str(error))
        raise UserError(f"Slurm refused the job: {complaint}{_cure_of(complaint)}") from None
    more = sbatch_options.typed_options(settings.slurm)
    return slurm_job(job_id, sbatch_options.cluster_named(more) or slurm.cluster_at_hand())


def _cure_of(complaint: str) -> str:
    """Return what to type where a complaint of Slurm's tells; empty where it does not."""
    if "unrecognized option" in complaint:
        return "; see sbatch --help for what --slurm may name"
    # In the site's own words, often: who names none where one is needed. Of an accounting policy it is not.
    if not re.search(r"\baccounts?\b", complaint, re.IGNORECASE):
        return ""
    mine = slurm.accounts(getpass.getuser())
    if not mine:
        return "; --account names one, and your cluster's help desk which you have"
    return f"; yours: {', '.join(mine)}: --account {mine[0]}, or export SBATCH_ACCOUNT={mine[0]} in site.env"


def job_python(environment: Mapping[str, str] = os.environ) -> str:
    """Return the program that a job starts as python: MRI_PYTHON, else the python of this process.

    Inside a container this one's path means nothing to the node: there MRI_PYTHON enters the container.
    """
    named = environment.get("MRI_PYTHON", "")
    if not named:
        return sys.executable
    found = shutil.which(named)
    if found is None:
        raise UserError(f"MRI_PYTHON={named} is no program: name the python, or the script, that jobs start")
    return str(Path(found).absolute())


def batch_script(
    run: RunDir, submission: int, settings: JobSettings, *, ranks_per_node: int, gpus: int
) -> str:
    """Return the batch script that `submit` would submit."""
    return _executor(run, submission, settings, ranks_per_node=ranks_per_node, gpus=gpus).script()


def _executor(
    run: RunDir,
    submission: int,
    settings: JobSettings,
    *,
    ranks_per_node: int,
    gpus: int,
    question: Sequence[str] = (),
) -> Executor:
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError("sbatch and srun are not on the PATH; load Slurm's module, or use --cluster local")
    if "%" in str(run.path):
        raise UserError(
            f"{run.path}: Slurm would replace what follows % in the path of a log; choose another --run"
        )
    python = job_python()
    more = sbatch_options.typed_options(settings.slurm)
    if settings.mail:
        more = sbatch_options.with_mail(more)
    if cluster := sbatch_options.cluster_named(more):
        # Also where the shell named it: sbatch hears nothing else of the shell's cluster.
        more["clusters"] = cluster
    # Those that a module of the site asks for count as typed, where nothing is.
    by_shell = os.environ if settings.gpus_per_node is None else {}
    names_gpus = bool(sbatch_options.gpu_options(more, by_shell))
    # Another cluster may be of another version.
    is_expedited = not cluster and expediting.is_offered()
    executor = Executor(folder=run.submitit, python=shlex.quote(python))
    executor.without = () if settings.gpus_per_node is None else ("gpus-per-node",)
    wanted: dict[str, Any] = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "cpus_per_task": settings.cpus_per_task,
        "mem": f"{round(settings.mem_gb * 1024)}M" if settings.mem_gb else None,
        # A site whose Slurm knows GPUs by --gres alone is asked in these words alone.
        "gpus_per_node": None if names_gpus else gpus or None,
    }
    # submitit counts with a number, and writes what stands here.
    nodes = {"nodes": settings.nodes} if settings.takes_any_number else {}
    cores = settings.cpus_per_task
    if settings.takes_any_number:
        # Told how many tasks a node has, Slurm counts those of the least nodes, and gives no more nodes than
        # tasks. It is asked for the cores of a node instead, and srun for the ranks.
        wanted["cpus_per_task"] = ranks_per_node * (cores or 1) if cores or ranks_per_node > 1 else None
    else:
        wanted["ntasks_per_node"] = ranks_per_node
    executor.update_parameters(
        job_name=_job_name(run),
        nodes=settings.node_range.most,
        time=settings.time_limit_min,
        signal_delay_s=settings.signal_ahead_s,
        setup=[
            *(expediting.LINES if is_expedited else ()),
            *(_as_many_ranks(ranks_per_node, cores) if settings.takes_any_number else ()),
            *_before_srun(
                run,
                submission,
                python,
                has_gpus=gpus > 0 or names_gpus,
                nodes=settings.node_range.most,
                question=question or _nodes_question(run, submission, python, _store_of(run)),
                mails=settings.mail,
            ),
        ],
        teardown=_after_srun(run, submission, python, settings.signal_ahead_s),
        # Of sites that export nothing from the shell (SBATCH_EXPORT=NONE) srun would take that over, and the
        # ranks would find neither what the lines above set, nor a PATH.
        srun_args=["--kill-on-bad-exit=1", "--export=ALL"],
        stderr_to_stdout=True,
        wckey=None,
        additional_parameters={
            "requeue": expediting.WORD if is_expedited else True,
            "open-mode": "append",
            **nodes,
            **more,
        },
        **{name: value for name, value in wanted.items() if value is not None},
    )
    return executor


def _before_srun(
    run: RunDir,
    submission: int,
    python: str,
    *,
    has_gpus: bool,
    nodes: int,
    question: Sequence[str],
    mails: bool = False,
) -> list[str]:
    """Return shell lines that outlive the signals to the ranks, and start none that may not start."""
    # A Slurm that does not fence its GPUs in shows them to every job of the node.
    without_gpus = [] if has_gpus else ['export CUDA_VISIBLE_DEVICES=""']
    return [
        "# The ranks are told to stop as well: this shell stays, to decide once they have saved and gone.",
        "trap : TERM USR1 USR2 INT",
        "# srun no longer inherits --cpus-per-task from sbatch.",
        'if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi',
        'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"',
        *without_gpus,
        *_addresses(nodes),
        *([f"export {MAILS}=1"] if mails else []),
        f"export {SHELL_HAS_SCONTROL}=1",
        f"command -v scontrol >/dev/null || export {SHELL_HAS_SCONTROL}=0",
        *question,
        "may_start=0",
        f"{_batch_command(python, 'before', run, submission)} --refused {REFUSED} || may_start=$?",
        f'if [ "$may_start" -eq {MAY_NOT_START} ]; then exit 0; fi',
        f'if [ "$may_start" -eq {REFUSED} ]; then exit {GAVE_UP}; fi',
    ]


def _as_many_ranks(ranks_per_node: int, cores: int | None) -> list[str]:
    """Return shell lines by which srun starts ranks on all nodes that the queue gave this time.

    cores: of a rank, where they were asked for.
    """
    of_rank = f"export SLURM_CPUS_PER_TASK={cores or 1}" if cores or ranks_per_node > 1 else ""
    return [
        "# Ranks on as many nodes as the queue gave this time.",
        f"export SLURM_NTASKS_PER_NODE={ranks_per_node}",
        f'export SLURM_NTASKS="$(({ranks_per_node} * SLURM_JOB_NUM_NODES))"',
        'export SLURM_NPROCS="$SLURM_NTASKS"',
        *([of_rank] if of_rank else []),
    ]


def _store_of(run: RunDir) -> str:
    """Return the store's first file; empty where it is not seen here, or not known, as with --dry-run."""
    if not run.settings.is_file():
        return ""
    recipe = (Path(load_training(run).store) / RECIPE).absolute()
    return str(recipe) if recipe.is_file() else ""


def _nodes_question(run: RunDir, submission: int, python: str, store: str) -> list[str]:
    """Return shell lines that ask every node whether it sees python, the run and its store."""
    paths = [python, str(run.attempt_folder(Attempt(submission=submission, restart=0)).absolute())]
    # A container has its own way to a store, which its node may not know by that name.
    paths += [store] if store and not os.environ.get("MRI_PYTHON") else []
    quoted = shlex.quote(python)
    return [
        *question_lines(paths),
        f"if ! command -v {quoted} >/dev/null; then",
        f'  echo "{OWN_WORDS}node $SLURMD_NODENAME does not see "{quoted}": all nodes of a job need it, on '
        f'a file system that they share; to leave it out: --slurm exclude=$SLURMD_NODENAME"',
        "  exit 1",
        "fi",
    ]


def _addresses(nodes: int) -> list[str]:
    """Return shell lines that tell the ranks of several nodes where Slurm finds each."""
    if nodes == 1:
        return []
    address = "s/^NodeName=([^ ]+) .* NodeAddr=([^ ]+) .*/\\1=\\2/p"
    return [
        "# Names of nodes need not resolve on the nodes: Slurm has their addresses.",
        f"export {slurm.ADDRESSES}",
        f'{slurm.ADDRESSES}="$(timeout 20 scontrol --oneliner show node "$SLURM_JOB_NODELIST" 2>/dev/null '
        f"| sed -nE '{address}' || true)\"",
    ]


def _after_srun(run: RunDir, submission: int, python: str, signal_ahead_s: int) -> list[str]:
    """Return shell lines that decide on the job; their last status is the batch script's."""
    command = _batch_command(python, "after", run, submission)
    return [
        "ranks_status=$?",
        "# What decides must not be cut short by the signals that it decides about.",
        "trap '' TERM USR1 USR2 INT",
        f'{command} --status "$ranks_status" --signal-ahead-s {signal_ahead_s}',
        "decided=$?",
        "# The python of a container may have no scontrol.",
        f'if [ "$decided" -eq {REQUEUE_BY_SHELL} ]; then',
        f'  scontrol requeue "$SLURM_JOB_ID" && decided={AGAIN}',
        "fi",
        'exit "$decided"',
    ]


def _batch_command(python: str, when: str, run: RunDir, submission: int) -> str:
    command = [python, "-m", "mri_hpc.cluster.batch", when, "--run", str(run.path)]
    return shlex.join([*command, "--submission", str(submission)])


def _job_name(run: RunDir) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in run.path.name)
    return f"mri-{name}"


def _essence(text: str) -> str:
    """Shorten Slurm's complaint to one line."""
    # Without "error:" where sbatch does not know an option; a hint to its --help is no complaint.
    found = re.findall(r"^.*?sbatch: (?:error: )?(.+)$", text, re.MULTILINE)
    lines = [line.strip() for line in found if not line.startswith("Try ")]
    return "; ".join(dict.fromkeys(lines)) or (text.strip().splitlines() or ["no reason given"])[-1]
