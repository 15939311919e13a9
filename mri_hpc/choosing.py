"""Choosing series: which of them are taken, and what has to be typed before any is stored."""

import sys
from collections.abc import Sequence

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.sequence import NO_CHOICE, choice_in
from mri_hpc.intake.kinds import Chosen, Kinds, KindTable, kinds_by_class, left_out_text, refuse_beside
from mri_hpc.intake.labels.label import Labels
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.storage.store import Store


def choose(
    series: str, paths: Sequence[str], kinds: Kinds, labels: Labels
) -> tuple[Chosen, KindTable | None]:
    """Return the files of the series that are taken, and the kinds by class where none is chosen.

    series: as in Recipe; paths: of all files.
    UserError where patients have several kinds, which are shown, and none is chosen; or where none is taken.
    """
    table = None
    if series == NO_CHOICE:
        table = kinds_by_class(paths, kinds, labels)
        if refusal := table.refusal():
            print("\n".join(table.lines()), file=sys.stderr)
            raise UserError(refusal)
    chosen = kinds.chosen(paths, choice_in(series))
    if not chosen.paths:
        raise UserError(f"--series {series} takes none of the series: {left_out_text(chosen.left_out)}")
    return chosen, table


def refuse_beside_stored(table: KindTable, store: Store, pseudonyms: Pseudonyms) -> None:
    """Raise UserError where a store has other kinds of the patients in a table."""
    if not table.of_patients:
        return
    from mri_hpc.cohort.stored_kinds import stored_kinds

    names = {name: pseudonyms.patient(name) for name in table.of_patients}
    refuse_beside(table, stored_kinds(store.current(), names))
