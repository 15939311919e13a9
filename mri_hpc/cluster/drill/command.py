"""The drill as a command: its cost first, then its course, then what it has found."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mri_hpc.base.command import counted, print_json, shown
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.cluster.doctor.finding import in_words
from mri_hpc.cluster.drill.drilling import plan_drill, run_drill
from mri_hpc.cluster.drill.verdict import DrillVerdict, Preemption
from mri_hpc.cluster.sbatch_options import typed_options
from mri_hpc.rundir.settings import JobSettings


def drill(
    runs: Path, job: JobSettings, store: Path, *, again: Sequence[str], may_submit: bool, as_json: bool
) -> None:
    """Make a drill and print what it has found, where it may be submitted; UserError with its cost where not.

    runs: folder beside whose runs it is made. store: what nodes have to see, where it is there. again: the
    command line without ``--yes``'s permission. Raises Verdict where there is a problem.
    """
    planned = plan_drill(runs, job, store if (store / "recipe.json").is_file() else None)
    if not may_submit:
        raise UserError(f"a drill asks for {planned.cost}. To submit it: {shlex.join([*again, '--yes'])}")
    if not as_json:
        print(f"Drill: {planned.cost}", flush=True)
    verdict = run_drill(planned, (lambda line: None) if as_json else _show)
    if as_json:
        print_json(asdict(verdict))
    else:
        print("\n".join(_report(verdict, again)))
    if verdict.problems:
        raise Verdict(
            f"the drill has found {counted(len(verdict.problems), 'problem')}, the first: "
            f"{verdict.problems[0].says}; its files: {shown(planned.folder.path)}"
        )


def _show(line: str) -> None:
    print(f"  {'...':7} {line}", flush=True)


def _report(verdict: DrillVerdict, again: Sequence[str]) -> list[str]:
    """Write what was found, what a preemption costs here, and what to type next."""
    lines = [line for finding in verdict.findings for line in in_words(finding)]
    if verdict.preemption:
        lines.append(_cost_of(verdict.preemption))
    if verdict.bad_nodes:
        nodes = ",".join(verdict.bad_nodes)
        lines.append(f"without {nodes}: {line_without(nodes, again)}; launch takes the same --slurm")
    return lines


def _cost_of(preemption: Preemption) -> str:
    return (
        f"a preemption costs {preemption.whole_s:.0f} s here: {preemption.stop_s:.0f} s to save (a small "
        f"network), {preemption.held_s:.0f} s until Slurm starts the job again, {preemption.start_s:.0f} s "
        "to the next step; more where the queue is long"
    )


def line_without(nodes: str, again: Sequence[str]) -> str:
    """Write the command line that leaves nodes out, beside those that it leaves out already."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--slurm", nargs="*", default=[])
    typed, words = parser.parse_known_args([word for word in again if word != "--yes"])
    before = [typed_options([pair]).get("exclude") for pair in typed.slurm]
    others = [pair for pair, excluded in zip(typed.slurm, before, strict=True) if excluded is None]
    exclude = ",".join([*(excluded for excluded in before if isinstance(excluded, str)), nodes])
    return shlex.join([*words, "--slurm", f"exclude={exclude}", *others, "--yes"])
