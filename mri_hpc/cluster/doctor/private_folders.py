"""Folders that show patients: whether they are their owner's, or one group's, alone."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mri_hpc.base.access import give, group_of, is_wider
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, problem
from mri_hpc.cluster.doctor.fixes import mode_of

PLACES = ("private", "runs/*/private", "data/store/private")
"""Of a run or a store, and of the runs and the store that are found where a user works."""
OWNERS_ALONE, GROUPS = 0o700, 0o2770


def look(site: Site) -> Iterator[Finding]:
    """Look at the modes of those that lie here."""
    folders = sorted(path for place in PLACES for path in site.folder.glob(place) if path.is_dir())
    wide = [path for path in folders if _is_of_ours(path) and is_wider(path, group_of(path))]
    for path in wide:
        group = group_of(path)
        fix = mode_of(path, OWNERS_ALONE if group is None else GROUPS)
        if group is not None:
            # Refuses where an ACL would still let others in.
            fix = dataclasses.replace(fix, make=partial(give, path, group))
        yield problem(f"{path} shows patients, and others may look into it", fix.does, fix=fix)
    if not wide:
        yield fine(f"{len(folders)} folders that show patients are here, none of them open to others")


def _is_of_ours(path: Path) -> bool:
    """Tell whether a folder of that name is a run's or a store's."""
    return any((path.parent / name).is_file() for name in ("settings.toml", "recipe.json"))


CHECK = Check(name="private", title="Folders that show patients", look=look)
