"""Changes that make good what a check found, each to one file or folder that is the user's own."""

import datetime
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.pseudonyms import site_key

SITE_ENV = Path("hpc/slurm/site.env")
CHECKOUT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Fix:
    """One change, and the way back."""

    path: Path
    """File or folder that is changed."""
    does: str
    """The change, in one line."""
    undo: str
    """The line to type, or what to take out, to have it as it was."""
    make: Callable[[], None]
    """Makes the change; OSError or UserError where it cannot be made."""

    @property
    def is_of_shell(self) -> bool:
        """Tell whether it is seen only once site.env is read again."""
        return self.path.name == SITE_ENV.name


def clone_of(folder: Path) -> Path | None:
    """Find the clone in which one works, else the one that this runs from; None where there is none."""
    places = (folder, *folder.parents, CHECKOUT)
    return next((place for place in places if (place / SITE_ENV).is_file()), None)


def line_in_site_env(clone: Path | None, name: str, value: str) -> Fix | None:
    """Have site.env export a variable; None without a clone."""
    if clone is None:
        return None
    path, line = clone / SITE_ENV, f"export {name}={shlex.quote(value)}"
    found = _line_of(path.read_text(encoding="utf-8"), name)
    before = found[0] if found else ""
    return Fix(
        path=path,
        does=f"write into {path}: {line}" + (f", in place of: {before}" if before else ""),
        undo=f"write {before} there again" if before else "take that line out again",
        make=partial(_write_line, path, name, line),
    )


def mode_of(path: Path, wanted: int) -> Fix:
    """Have a file or folder for its owner alone, or with one group."""
    before = stat.S_IMODE(path.stat().st_mode)
    return Fix(
        path=path, does=f"chmod {wanted:o} {shlex.quote(str(path))}",
        undo=f"chmod {before:o} {shlex.quote(str(path))}", make=partial(path.chmod, wanted),
    )  # fmt: skip


def key_at(path: Path) -> Fix:
    """Have a key of pseudonyms made."""
    return Fix(
        path=path,
        does=f"make the key of pseudonyms: {path}",
        undo=f"rm {shlex.quote(str(path))}, as long as no patient was added by it",
        make=partial(_make_key, path),
    )


def offered(fixes: Iterable[Fix | None], roots: Iterable[Path]) -> Iterator[Fix]:
    """Yield each change once that lies below one of these folders, wherever links lead."""
    real = [Path(os.path.realpath(root)) for root in roots]
    seen = set()
    for fix in fixes:
        if fix and fix.does not in seen and _is_below(fix.path, real):
            seen.add(fix.does)
            yield fix


def _is_below(path: Path, roots: Iterable[Path]) -> bool:
    return any(Path(os.path.realpath(path)).is_relative_to(root) for root in roots)


def _line_of(text: str, name: str) -> re.Match[str] | None:
    """Find the last line of a shell file that sets a variable; None where none does."""
    return max(
        re.finditer(rf"^(?:export +)?{name}=.*$", text, re.MULTILINE), key=re.Match.start, default=None
    )


def _write_line(path: Path, name: str, line: str) -> None:
    text, mode = path.read_text(encoding="utf-8"), stat.S_IMODE(path.stat().st_mode)
    before = _line_of(text, name)
    if before:
        text = f"{text[: before.start()]}{line}{text[before.end() :]}"
    else:
        today = datetime.date.today().isoformat()
        text = f"{text.rstrip()}\n\n# By mri-hpc doctor --fix, {today}:\n{line}\n"
    replace_bytes(path, text.encode())
    path.chmod(mode)


def _make_key(path: Path) -> None:
    if path.exists():
        raise UserError(f"{path} is there meanwhile: nothing was changed")
    site_key(path)
