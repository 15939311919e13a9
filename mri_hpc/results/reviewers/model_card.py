"""The model card of a run: what the model is, from which data, how well it did, and what it is not for."""

from collections.abc import Sequence
from dataclasses import dataclass

from mri_hpc.results.pages.record import Record
from mri_hpc.results.reviewers import statements_on_data as data
from mri_hpc.results.reviewers import statements_on_model as model
from mri_hpc.results.reviewers import statements_on_results as found
from mri_hpc.results.reviewers.checklist import Statement, of_all_runs
from mri_hpc.results.reviewers.statements import sentences

ONLY_YOU = "Only you know"


@dataclass(frozen=True)
class Line:
    """One line of a model card."""

    title: str
    statements: tuple[Statement, ...] = ()
    yours: str = ""
    """Part that no run can know."""

    def words(self, records: Sequence[Record]) -> str:
        """Write it out, ending with what only its author knows."""
        says = sentences(of_all_runs(records, statement) for statement in self.statements)
        yours = self.yours or ("" if says else "the run did not write it down")
        return " ".join(part for part in (says, f"{ONLY_YOU}: {yours}." if yours else "") if part)


CARD: dict[str, tuple[Line, ...]] = {
    "Model": (
        Line("What it is", (model.architecture,)),
        Line("Weights at the start", (model.start,)),
        Line("Training", (model.training, model.imbalance)),
        Line("Chosen weights", (model.selection,)),
        Line("Several models together", (model.ensembling,)),
    ),
    "Data": (
        Line("Source", (data.source,), "hospitals, public data sets and their licences, dates"),
        Line("Images and patients", (data.counts, data.unused)),
        Line("By class", (data.class_counts,), "age, sex, stage and the like"),
        Line("Kinds of images", (data.acquisition,), "scanners, field strengths, sequences, contrast"),
        Line("Classes", (data.reference,), "how the classes were found: histology, follow-up, reading"),
        Line("Splits", (data.partition, data.disjointness)),
        Line("Preprocessing", (data.preprocessing, data.taken)),
        Line("De-identification", (data.deidentification,), "what was done before"),
    ),
    "Intended use": (
        Line("Use", (model.use,)),
        Line("Users and patients", (), "for whom it is meant, where in the pathway, and by whom"),
    ),
    "Figures": (
        Line("To judge by", (found.headline,)),
        Line("All figures, test split", (found.figures,)),
        Line("Of each class", (found.class_figures,)),
        Line("Wrong answers", (found.failures,)),
        Line("Beside controls", (found.controls,)),
        Line("Groups", (found.groups,), "groups that the store does not know, such as of age and sex"),
        Line("Elsewhere", (found.external,)),
        Line("Probabilities", (found.probabilities,)),
        Line("Decision", (found.decision,)),
        Line("Sets of classes", (found.sets,)),
        Line("Where it looks", (found.explained,)),
        Line("Intervals", (found.uncertainty,)),
    ),
    "Limits": (
        Line("Beside every figure", (found.notes,), "limits of your study"),
        Line("Never tested", (found.untested,)),
        Line("What it cannot answer", (found.cannot_answer,)),
    ),
    "Provenance": (
        Line("Digests", (model.identity, data.source)),
        Line("Software and machine", (model.software,)),
        Line("Settings and protocol", (model.protocol,)),
    ),
}  # fmt: skip


def fill_card(records: Sequence[Record]) -> dict[str, list[tuple[str, str]]]:
    """Write out all lines, as (title, words), by section. records: of the runs of one study."""
    return {section: [(line.title, line.words(records)) for line in lines] for section, lines in CARD.items()}
