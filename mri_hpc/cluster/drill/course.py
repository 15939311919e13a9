"""The course of a drill until all is over, as it is seen where it was launched."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mri_hpc.base.errors import UserError
from mri_hpc.cluster import slurm
from mri_hpc.cluster.choice import standing_of
from mri_hpc.cluster.doctor.finding import Finding
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.probe import Answers, Question, judge_nodes, judge_so_far, read_answers
from mri_hpc.cluster.jobs import Job
from mri_hpc.cluster.launching import end_job
from mri_hpc.cluster.scheduler import Phase, Standing
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.ledger import Event, Kind, read_events

POLL_S = 0.5
SETTLES_S = 20.0
"""In which a job that has ended writes its last words, and a file system shows them."""
# Another attempt would end as this one did.
HOPELESS = {Cause.CRASH.value, Cause.USER_ERROR.value}


@dataclass
class Course:
    """An observer of a drill."""

    drill: DrillFolder
    question: Question
    """The one that the nodes are asked first."""
    job: Job
    say: Callable[[str], None]
    """Called with each new thing that is seen, as a line for people."""
    _line: str = ""
    _standing: Standing | None = None
    _nodes_are_judged: bool = False
    _found: set[str] = field(default_factory=set)
    """Findings of nodes that were shown, without their names: of one that many have, the first is enough."""

    def follow(self) -> None:
        """Return once the drill is over, or can go no further; end the job then. Raises KeyboardInterrupt."""
        try:
            while not self._is_over():
                time.sleep(POLL_S)
            self._settle()
        except KeyboardInterrupt:
            self.say(f"interrupted: {end_job(self.drill.run)}")
            raise

    def _is_over(self) -> bool:
        if self._phase() is Phase.GONE:
            return True
        answers = read_answers(self.drill)
        if answers and answers.status:
            return True
        events = read_events(self.drill.run)
        decided = [event.values for event in events if event.kind == Kind.DECIDED]
        if decided and Kind.FIRST_STEP not in {event.kind for event in events}:
            # Ranks that did not meet in the first attempt would not in the next.
            return True
        if any(one.get("cause") in HOPELESS or one.get("decision") == Action.GIVE_UP for one in decided):
            return True
        if answers is None:
            self._show(judge_so_far(self.drill, self.question))
        elif not self._nodes_are_judged:
            self._judge(answers)
        self._tell(events, has_answers=answers is not None)
        return self.drill.twin.is_finished

    def _phase(self) -> Phase:
        """Ask how the job stands, as rarely as its scheduler wants."""
        try:
            self._standing = standing_of(self.job)
        except UserError:
            # Slurm is away: what the job writes is seen all the same.
            self._standing = Standing(phase=Phase.RUNNING)
        return self._standing.phase

    def _judge(self, answers: Answers) -> None:
        """Say what all answers together show: the end of the drill is minutes away."""
        self._nodes_are_judged = True
        # Slurm says which nodes these are; where it is away now, the judgement says it all.
        with contextlib.suppress(UserError):
            self._show(judge_nodes(answers, slurm.node_names(answers.nodes), self.question))

    def _show(self, by_node: Mapping[str, Sequence[Finding]]) -> None:
        """Say what is new."""
        for node, findings in by_node.items():
            for one in findings:
                if one.says not in self._found:
                    self._found.add(one.says)
                    self.say(f"{node}: {one.says}")

    def _tell(self, events: list[Event], *, has_answers: bool) -> None:
        """Say what is new."""
        kinds = [event.kind for event in events]
        words = "the job waits"
        if self._standing and self._standing.wait:
            words += f": {self._standing.wait}"
        if self.drill.began.exists():
            words = "every node is asked what it sees"
        if has_answers:
            words = "all nodes can start ranks: they meet, and train"
        if Kind.FIRST_STEP in kinds:
            words = "a step is taken: Slurm tells the ranks to stop"
        if Kind.STOP_AGREED in kinds:
            words = "they have agreed to stop, and save"
        if Kind.DECIDED in kinds:
            words = "the job is requeued, and waits to start again"
        if kinds.count(Kind.STARTING) > 1:
            words = "it has started again"
        if kinds.count(Kind.FIRST_STEP) > 1:
            words = "it has resumed; a twin that nothing interrupts is trained beside it"
        if words != self._line:
            self.say(words)
            self._line = words

    def _settle(self) -> None:
        """Let the job write its last words, and end it where it still goes on."""
        give_up_s = time.monotonic() + SETTLES_S
        while not self._has_last_words() and time.monotonic() < give_up_s:
            time.sleep(POLL_S)
        answers = read_answers(self.drill)
        # Where a node cannot start ranks the job's script ends by itself.
        if not self.drill.twin.is_finished and not (answers and answers.status):
            end_job(self.drill.run)

    def _has_last_words(self) -> bool:
        # Listing the folder makes a network file system ask its server for new names.
        names = {path.name for path in self.drill.path.iterdir()}
        if not self.drill.twin.is_finished:
            return self.drill.seen.name in names
        decided = [e.values.get("cause") for e in read_events(self.drill.run) if e.kind == Kind.DECIDED]
        return Cause.FINISHED.value in decided
