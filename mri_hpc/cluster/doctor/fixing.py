"""The changes that doctor offers: shown, and made where that was typed."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mri_hpc.base.command import described
from mri_hpc.base.errors import UserError
from mri_hpc.cluster.doctor.finding import Finding, Site
from mri_hpc.cluster.doctor.fixes import Fix, offered
from mri_hpc.intake.labels.pseudonyms import key_path


def fixes_of(found: Iterable[Finding], site: Site) -> list[Fix]:
    """Return the changes that findings offer, inside the clone, the run and the user's own folder."""
    return list(offered((finding.fix for finding in found), _roots(site)))


def _roots(site: Site) -> Iterator[Path]:
    if site.clone:
        yield site.clone
    if site.run:
        yield site.run
    # Not where MRI_KEY_FILE may point: that folder is a group's.
    yield key_path({name: value for name, value in site.environment.items() if name != "MRI_KEY_FILE"}).parent


def show(fixes: Sequence[Fix]) -> None:
    """Print what would be changed, and the way back."""
    if not fixes:
        print("There is nothing here that doctor could change: see the lines with do:")
        return
    print("What doctor can change:")
    for fix in fixes:
        print(f"  {fix.does}\n    undo: {fix.undo}")
    print("Nothing is changed so far. To make these changes: the same command with --fix --yes")


def are_all_made(found: Iterable[Finding], fixes: Iterable[Fix]) -> bool:
    """Tell whether nothing is left to do of these findings once the changes are made."""
    made = {fix.does for fix in fixes}
    return all(finding.fix is not None and finding.fix.does in made for finding in found)


def make(fixes: Sequence[Fix]) -> bool:
    """Make the changes, and print what was done; tell whether all could be made."""
    failed = 0
    for fix in fixes:
        try:
            fix.make()
        except (UserError, OSError) as error:
            failed += 1
            why = described(error) if isinstance(error, OSError) else error
            print(f"  failed  {fix.does}: {why}")
        else:
            print(f"  done    {fix.does}\n    undo: {fix.undo}")
    if any(fix.is_of_shell for fix in fixes):
        paths = sorted({os.path.relpath(fix.path) for fix in fixes if fix.is_of_shell})
        print(f"Now type: source {paths[0]}")
    if not fixes:
        print("There is nothing here that doctor could change: see the lines with do:")
    return not failed
