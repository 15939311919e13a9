"""``mri-hpc store``: look into a store, and look after it."""

import sys
from collections.abc import Sequence

from mri_hpc.base.command import Action, run_action
from mri_hpc.store_actions.audit import Audit, audit_store
from mri_hpc.store_actions.compact import Compact, compact_store
from mri_hpc.store_actions.export import Export, export_store
from mri_hpc.store_actions.info import Info, info
from mri_hpc.store_actions.prove import Prove, prove_file_system
from mri_hpc.store_actions.relabel import Relabel, relabel_images
from mri_hpc.store_actions.retract import Retract, retract
from mri_hpc.store_actions.same_patient import SamePatient, join_patients
from mri_hpc.store_actions.sheet import Sheet, draw_sheet
from mri_hpc.store_actions.verify import Verify, check_store
from mri_hpc.store_actions.who_used import WhoUsed, who_used

ACTIONS = {
    "info": Action(options=Info, body=info, example="mri-hpc store info data/store"),
    "verify": Action(options=Verify, body=check_store, example="mri-hpc store verify data/store --sample 1%"),
    "export": Action(
        options=Export, body=export_store, example="mri-hpc store export data/store --single all.h5"
    ),
    "sheet": Action(options=Sheet, body=draw_sheet, example="mri-hpc store sheet data/store sheet.png"),
    "compact": Action(options=Compact, body=compact_store, example="mri-hpc store compact data/store"),
    "audit": Action(options=Audit, body=audit_store, example="mri-hpc store audit data/store --near"),
    "relabel": Action(
        options=Relabel,
        body=relabel_images,
        example="mri-hpc store relabel data/store --labels new.csv --dry-run",
    ),
    "retract": Action(options=Retract, body=retract, example="mri-hpc store retract data/store --patient ID"),
    "same-patient": Action(
        options=SamePatient, body=join_patients, example="mri-hpc store same-patient data/store ID OTHER"
    ),
    "who-used": Action(options=WhoUsed, body=who_used, example="mri-hpc store who-used data/store ID"),
    "prove": Action(options=Prove, body=prove_file_system, example="mri-hpc store prove /scratch/me"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    outcome = "Look into a store and look after it."
    return run_action("mri-hpc store", outcome, ACTIONS, argv, example="mri-hpc store info data/store")


if __name__ == "__main__":
    sys.exit(main())
