"""The question to each node of a job, by its script before any rank starts, and the answers."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.documents import convert, parse
from mri_hpc.cluster import slurm
from mri_hpc.cluster.doctor.finding import Finding, Level, note, problem
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.ways import Apart, judge_ways

STOPS = 3
"""Exit status of a node that cannot carry a rank."""
ANSWER_WITHIN_S = 75
CLOCKS_APART_S = 5
"""That clocks may differ before it is said."""
APART = "apart"
"""First word of a node's line about another one that it does not reach."""
# In the shell, as a node may have no such python. Each line begins with the node's name; a finding is JSON.
ON_NODE = """
node=${SLURMD_NODENAME:-$(uname -n)}
echo "$node clock $(date +%s)"
for name in $1; do printenv "$name" >/dev/null || echo "$node lacks $name"; done
shift
if [ ! -x "$1" ]; then echo "$node no-python"; exit 3; fi
said=$("$@" 2>&1)
status=$?
printf '%s\\n' "$said" | sed "s|^|$node |"
if [ "$status" -ne 0 ] && [ "$status" -ne 3 ]; then echo "$node died $status $(ulimit -v)"; status=3; fi
exit "$status"
"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """The question to the nodes."""

    python: str
    """Program that they have to start."""
    token: str
    """Words that they have to find in the drill's folder."""
    store: str = ""
    """Folder of the user's store; empty where there is none yet."""
    key: str = ""
    """Fingerprint of the site's key; empty where there is none yet."""
    gpus: int = 0
    """GPUs that each has to give."""
    interface: str = ""
    """Interface by which ranks are to meet; empty for any."""
    ports: str = ""
    """Range of the ports on which they may listen; empty for any."""
    variables: tuple[str, ...] = ()
    """Names of the variables, of the shell that launches, that the job should have."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers of the nodes of a job."""

    nodes: str
    """All nodes of the job, in Slurm's words, as n[1-4]."""
    status: int
    """Of the step that asked them."""
    lines: tuple[tuple[str, str], ...]
    """Node, and its words."""
    began: int
    """Unix time before they were asked, by the clock of the first node."""
    ended: int
    """The same afterwards."""
    complaint: str = ""
    """The last words of srun."""


def first_lines(drill: DrillFolder, question: Question) -> tuple[str, ...]:
    """Return the lines of the batch script that ask the nodes; without a good answer it ends there.

    Asked once, when the job first starts: they take the place of the question that launch asks each time.
    """
    asked = [question.python, "-m", "mri_hpc.cluster.drill.node", str(drill.path)]
    asked += [question.token, question.store, question.key, str(question.gpus)]
    asked = [" ".join(question.variables), *asked, question.interface, question.ports]
    files = (drill.began, drill.seen_so_far, drill.seen, drill.seen_errors)
    began, so_far, seen, errors = (shlex.quote(str(path)) for path in files)
    return (
        "# The drill: before any rank starts, each node says what it sees.",
        'if [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ]; then',
        f"  date +%s >{began}",
        f"  timeout {ANSWER_WITHIN_S} srun --job-name={slurm.QUESTION_STEP} \\",
        "    --export=ALL --kill-on-bad-exit=0 --wait=0 \\",
        '    --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \\',
        f"    sh -c {shlex.quote(ON_NODE)} look {shlex.join(asked)} >{so_far} 2>{errors}",
        "  looked=$?",
        f'  echo "- $looked $(cat {began}) $(date +%s) $SLURM_JOB_NODELIST" >>{so_far}',
        f"  mv {so_far} {seen}",
        '  if [ "$looked" -ne 0 ]; then exit 1; fi',
        "fi",
    )


def read_answers(drill: DrillFolder) -> Answers | None:
    """Read what the nodes said; None while, or where, it is not there."""
    try:
        *rows, last = _rows(drill.seen)
        status, began, ended, nodes = last[1].split(" ", 3)
    except (FileNotFoundError, ValueError):
        return None
    errors = _rows(drill.seen_errors) if drill.seen_errors.exists() else []
    return Answers(
        nodes=nodes, status=int(status), lines=tuple(rows), began=int(began), ended=int(ended),
        complaint=" ".join(errors[-1]) if errors else "",
    )  # fmt: skip


def judge_nodes(answers: Answers, nodes: Sequence[str], question: Question) -> dict[str, list[Finding]]:
    """Judge each node of the job by what it said, and by its silence: findings by node, none where all fits.

    nodes: all of the job. What is a problem keeps ranks from starting there.
    """
    found = _by_own_words(answers, nodes, question)
    for node, seconds in _off_clocks(answers, nodes).items():
        ahead = "ahead of" if seconds > 0 else "behind"
        found[node].append(
            note(
                f"its clock is at least {abs(seconds)} s {ahead} that of {nodes[0]}: "
                "their times will not fit",
                "ask your cluster's help desk to set it; until then --slurm exclude=" + node,
            )
        )
    return found


def judge_so_far(drill: DrillFolder, question: Question) -> dict[str, list[Finding]]:
    """Judge nodes by what they have said already, while they are still asked; by their clocks none."""
    try:
        text = drill.seen_so_far.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    # The last line may be half written.
    rows = tuple(_row(line) for line in text.splitlines(keepends=True) if line.endswith("\n"))
    answers = Answers(nodes="", status=0, lines=rows, began=0, ended=0)
    nodes = dict.fromkeys(name for name, words in rows if words.startswith("clock "))
    return _by_own_words(answers, [*nodes], question)


def _by_own_words(answers: Answers, nodes: Sequence[str], question: Question) -> dict[str, list[Finding]]:
    found = {node: list(_of_node(answers, node, question)) for node in nodes}
    for node, findings in judge_ways(_apart(answers, nodes)).items():
        found[node] += findings
    return found


def _of_node(answers: Answers, node: str, question: Question) -> Iterator[Finding]:
    lines = [words for name, words in answers.lines if name == node]
    if not lines:
        yield problem(
            f"it did not answer within {ANSWER_WITHIN_S} s"
            + (f": {answers.complaint}" if answers.complaint else ""),
            "ask your cluster's help desk",
        )
    lacking = [words.partition(" ")[2] for words in lines if words.startswith("lacks ")]
    if lacking:
        yield _of_lacking(lacking)
    plain: list[str] = []
    for words in lines:
        if words.startswith("{"):
            yield _finding(words)
        elif words == "no-python":
            yield problem(
                f"it has no {question.python}, the python of the job",
                "install where all nodes see it, or export MRI_PYTHON=/project/venv/bin/python",
            )
        elif words.startswith("died "):
            yield _of_dead_python(words, plain, question)
        elif words.partition(" ")[0] not in ("clock", "lacks", APART):
            plain.append(words)


def _finding(words: str) -> Finding:
    values = parse(words)
    return convert({**values, "level": Level(values["level"])}, Finding)


def _of_lacking(names: Sequence[str]) -> Finding:
    """Say which variables of the shell do not come to the job's nodes."""
    listed = ",".join(names)
    return note(
        f"jobs do not get {listed} of your shell there: SBATCH_EXPORT, --slurm export or the site keeps that",
        f"export SBATCH_EXPORT={listed}, in site.env; or set it where each node's own shell does",
    )


def _apart(answers: Answers, nodes: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return (node, another that it does not reach) → why, of the nodes of the job."""
    found = {}
    for node, words in answers.lines:
        word, _, rest = words.partition(" ")
        other, _, why = rest.partition(" ")
        if word == APART and {node, other} <= set(nodes):
            found[node, other] = why
    return found


def _of_dead_python(words: str, lines: Sequence[str], question: Question) -> Finding:
    """Judge a python that could not even say what it sees. words: ``died STATUS LIMIT``."""
    _, status, limit = words.split()
    last = next((line for line in reversed(lines) if line.strip()), f"it ended with status {status}")
    if limit != "unlimited":
        return problem(
            f"{question.python} cannot work there: {last}; a process may use {limit} kB there (ulimit -v)",
            "launch from a shell with ulimit -v unlimited: jobs take over its limits",
        )
    return problem(
        f"{question.python} cannot work there: {last}",
        "install where all nodes see it, and for the oldest of them",
    )


def _off_clocks(answers: Answers, nodes: Sequence[str]) -> dict[str, int]:
    """Return seconds by which a node's clock is ahead of the first node's at least, of those that differ.

    Each answered at some moment while it was asked: only what lies outside is a difference.
    """
    found = {}
    for node, words in answers.lines:
        word, _, clock = words.partition(" ")
        if node in nodes and word == "clock" and clock.isdigit():
            ahead = max(int(clock) - answers.ended, 0) + min(int(clock) - answers.began, 0)
            if abs(ahead) > CLOCKS_APART_S:
                found[node] = ahead
    return found


def _rows(path: Path) -> list[tuple[str, str]]:
    return [_row(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]


def _row(line: str) -> tuple[str, str]:
    name, _, words = line.rstrip("\n").partition(" ")
    return name, words


def as_line(one: Finding | Apart) -> str:
    """Write what a node has found as one line, which `read_answers` reads."""
    if isinstance(one, Apart):
        return f"{APART} {one.node} {one.why}"
    return json.dumps({"level": one.level.value, "says": one.says, "cure": one.cure})
