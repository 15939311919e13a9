"""``mri-hpc store``: look into a store, and look after it.

Each action is imported when it is asked for: some need what is slow to start.
"""

import sys
from collections.abc import Sequence

from mri_hpc.base.command import Action, run_action


def _audit() -> Action:
    from mri_hpc.store_actions.audit import Audit, audit_store

    return Action(options=Audit, body=audit_store, example="mri-hpc store audit data/store --report-only")


def _compact() -> Action:
    from mri_hpc.store_actions.compact import Compact, compact_store

    return Action(options=Compact, body=compact_store, example="mri-hpc store compact data/store")


def _export() -> Action:
    from mri_hpc.store_actions.export import Export, export_store

    return Action(
        options=Export, body=export_store, example="mri-hpc store export data/store --single all.h5"
    )


def _info() -> Action:
    from mri_hpc.store_actions.info import Info, info

    return Action(options=Info, body=info, example="mri-hpc store info data/store")


def _prove() -> Action:
    from mri_hpc.store_actions.prove import Prove, prove_file_system

    return Action(options=Prove, body=prove_file_system, example="mri-hpc store prove /scratch/me")


def _relabel() -> Action:
    from mri_hpc.store_actions.relabel import Relabel, relabel_images

    return Action(
        options=Relabel,
        body=relabel_images,
        example="mri-hpc store relabel data/store --labels new.csv --dry-run",
    )


def _retract() -> Action:
    from mri_hpc.store_actions.retract import Retract, retract

    return Action(options=Retract, body=retract, example="mri-hpc store retract data/store --patient ID")


def _same_patient() -> Action:
    from mri_hpc.store_actions.same_patient import SamePatient, join_patients

    return Action(
        options=SamePatient, body=join_patients, example="mri-hpc store same-patient data/store ID OTHER"
    )


def _sheet() -> Action:
    from mri_hpc.store_actions.sheet import Sheet, draw_sheet

    return Action(options=Sheet, body=draw_sheet, example="mri-hpc store sheet data/store sheet.png")


def _verify() -> Action:
    from mri_hpc.store_actions.verify import Verify, check_store

    return Action(options=Verify, body=check_store, example="mri-hpc store verify data/store --sample 1%")


def _who_used() -> Action:
    from mri_hpc.store_actions.who_used import WhoUsed, who_used

    return Action(options=WhoUsed, body=who_used, example="mri-hpc store who-used data/store ID")


ACTIONS = {
    "info": _info,
    "verify": _verify,
    "export": _export,
    "sheet": _sheet,
    "compact": _compact,
    "audit": _audit,
    "relabel": _relabel,
    "retract": _retract,
    "same-patient": _same_patient,
    "who-used": _who_used,
    "prove": _prove,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    outcome = "Look into a store and look after it."
    return run_action("mri-hpc store", outcome, ACTIONS, argv, example="mri-hpc store info data/store")


if __name__ == "__main__":
    sys.exit(main())
