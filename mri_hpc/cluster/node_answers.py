"""Answers of a job's nodes: paths that each does not see, and its clock, asked of its own shell by srun.

A node that lacks python or the run's folder can say so in no other way: what srun prints comes to the first
node of the job, through no file.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mri_hpc.cluster import slurm

ANSWERS = "MRI_NODES"
"""Variable with the nodes' answers, by the batch script."""
PATIENCE_S = 60
"""Of the job for its nodes: one on which a file system hangs does not answer at all."""
LEAST_CLOCK_S = 5.0
"""Difference of two clocks from which it is said."""
QUESTION = (
    'echo "node $SLURMD_NODENAME $(date +%s.%N)"; '
    'for path; do test -e "$path" || echo "unseen $SLURMD_NODENAME $path"; done; '
    'echo "end $SLURMD_NODENAME"'
)
BEGAN, ENDED = "asked", "told"
"""First words of the lines of the first node itself, before it asks the others and after."""


@dataclass(frozen=True, kw_only=True)
class NodeAnswers:
    """Answers of the nodes of a job."""

    unseen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Node → paths that it does not see, of those that were asked for."""
    clocks: Mapping[str, float] = field(default_factory=dict)
    """Node → seconds by which its clock is ahead of the first node's, of those that differ."""
    silent: tuple[str, ...] = ()
    """Nodes that began to answer, and did not end."""


def question_lines(paths: Sequence[str], *, variable: str = ANSWERS) -> list[str]:
    """Return lines of shell for a batch script: they ask every node for these paths, and keep the answers.

    Each node takes the time of one job step. Where the step cannot be made, the answers are empty.
    """
    srun = (
        f"timeout --kill-after=5 {PATIENCE_S} srun --job-name={slurm.QUESTION_STEP} --overlap --input=none "
        "--kill-on-bad-exit=0 --export=ALL "
        '--nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1'
    )
    return [
        "# What every node sees is asked of its shell: without python, or a folder, it tells nothing else.",
        f"export {variable}",
        f'{variable}="{BEGAN} $(date +%s.%N)',
        f"$({srun} sh -c {shlex.quote(QUESTION)} sh {shlex.join(paths)} 2>/dev/null)",
        f'{ENDED} $(date +%s.%N)"',
    ]


def parse(text: str) -> NodeAnswers:
    """Parse the answers; lines of others among them are passed over."""
    unseen: dict[str, list[str]] = {}
    clocks: dict[str, float] = {}
    ended: set[str] = set()
    own: dict[str, float] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        node, _, value = rest.partition(" ")
        if word in (BEGAN, ENDED) and (time_s := _seconds(rest)) is not None:
            own[word] = time_s
        elif word == "node" and node:
            clocks[node] = _seconds(value) or 0.0
        elif word == "unseen" and value:
            unseen.setdefault(node, []).append(value)
        elif word == "end" and node:
            ended.add(node)
    return NodeAnswers(
        unseen={node: tuple(paths) for node, paths in sorted(unseen.items())},
        clocks=_differences(clocks, own),
        silent=tuple(sorted(set(clocks) - ended)),
    )


def _differences(clocks: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
    """Compare the nodes' clocks with the first node's, which was read before it asked and after."""
    if len(own) < 2:
        return {}
    differences = {}
    for node, time_s in sorted(clocks.items()):
        # Each answered at some moment between: only what lies outside is a difference.
        ahead_s = max(time_s - own[ENDED], 0.0) + min(time_s - own[BEGAN], 0.0)
        if time_s and abs(ahead_s) >= LEAST_CLOCK_S:
            differences[node] = round(ahead_s, 1)
    return differences


def _seconds(text: str) -> float | None:
    # A date that knows no %N prints the letter.
    match = re.match(r"\d+(?:\.\d+)?", text)
    return float(match[0]) if match else None


def unseen_words(unseen: Mapping[str, Sequence[str]], names: Mapping[str, str]) -> str:
    """Say which nodes do not see what, and what to do; `names` says what a path is, where it is known."""
    nodes_of: dict[tuple[str, ...], list[str]] = {}
    for node, paths in unseen.items():
        nodes_of.setdefault(tuple(names.get(path, path) for path in paths), []).append(node)
    found = [f"{_subject(nodes)} not see {', nor '.join(things)}" for things, nodes in nodes_of.items()]
    return (
        f"{'; '.join(found)}: all nodes of a job need it, on a file system that they share; to leave nodes "
        f"out: --slurm exclude={','.join(unseen)}"
    )


def _subject(nodes: Sequence[str]) -> str:
    return f"node {nodes[0]} does" if len(nodes) == 1 else f"nodes {', '.join(nodes)} do"


def clock_words(node: str, ahead_s: float) -> str:
    """Say of a node's clock how it differs: ``n2 is 120 s ahead``."""
    return f"{node} is {abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'behind'}"
