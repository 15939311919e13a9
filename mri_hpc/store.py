"""``mri-hpc store``: look into a store, and look after it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import subcommand

from mri_hpc.base.command import run_command
from mri_hpc.store_actions.audit import Audit, audit_store
from mri_hpc.store_actions.compact import Compact, compact_store
from mri_hpc.store_actions.export import Export, export_store
from mri_hpc.store_actions.info import Info, info
from mri_hpc.store_actions.prove import Prove, prove_file_system
from mri_hpc.store_actions.relabel import Relabel, relabel_images
from mri_hpc.store_actions.retract import Retract, retract_patient
from mri_hpc.store_actions.sheet import Sheet, draw_sheet
from mri_hpc.store_actions.verify import Verify, check_store
from mri_hpc.store_actions.who_used import WhoUsed, who_used

ACTIONS: dict[type, Callable[[Any], int | None]] = {
    Info: info,
    Verify: check_store,
    Export: export_store,
    Sheet: draw_sheet,
    Compact: compact_store,
    Audit: audit_store,
    Relabel: relabel_images,
    Retract: retract_patient,
    WhoUsed: who_used,
    Prove: prove_file_system,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Look into a store and look after it."""

    action: (
        Annotated[Info, subcommand("info")]
        | Annotated[Verify, subcommand("verify")]
        | Annotated[Export, subcommand("export")]
        | Annotated[Sheet, subcommand("sheet")]
        | Annotated[Compact, subcommand("compact")]
        | Annotated[Audit, subcommand("audit")]
        | Annotated[Relabel, subcommand("relabel")]
        | Annotated[Retract, subcommand("retract")]
        | Annotated[WhoUsed, subcommand("who-used")]
        | Annotated[Prove, subcommand("prove")]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command("mri-hpc store", Options, _run, argv, example="mri-hpc store info data/store")


def _run(options: Options) -> int | None:
    return ACTIONS[type(options.action)](options.action)


if __name__ == "__main__":
    sys.exit(main())
