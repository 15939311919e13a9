"""``mri-hpc store verify --privacy``: a search for names in all that a store, or a run, may share."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from mri_hpc.base.command import counted, print_json, progress, shown_bytes
from mri_hpc.base.errors import Verdict
from mri_hpc.rundir.layout import open_run
from mri_hpc.storage.store import FoundName, NameSearch, Store, WantedNames, read_wanted, search_folder

LINES_SHOWN = 20


def check_privacy(folder: Path, file: Path, *, is_json: bool) -> None:
    """Look for the names in `file` below a folder, and print what was found; Verdict where one was.

    folder: of a store, whose private part is passed over, or of a run.
    """
    wanted = read_wanted(file)
    if (folder / "settings.toml").is_file():
        folder, passed_over = open_run(folder).path, []
    else:
        store = Store.open(folder)
        folder, passed_over = store.path, [store.private]
    start = time.monotonic()
    search = search_folder(folder, wanted.names, passed_over=passed_over, progress=_shown)
    if is_json:
        print_json({
            "store": str(folder), "names": len(wanted.names), "too_short": list(wanted.too_short),
            "files": search.files, "bytes": search.bytes, "seconds": round(time.monotonic() - start, 3),
            "found": [asdict(one) for one in search.found],
        })  # fmt: skip
    else:
        _print(wanted, search, file)
    if search.found:
        lines = {one.line for one in search.found}
        raise Verdict(
            f"{folder}: {len(lines)} of the {counted(len(wanted.names), 'name')} in {file} {_was(lines)} "
            f"found, the first: {_place(search.found[0], file)}; share nothing of it until that is gone"
        )


def _print(wanted: WantedNames, search: NameSearch, file: Path) -> None:
    if wanted.too_short:
        lines = ", ".join(map(str, wanted.too_short[:LINES_SHOWN]))
        more = ", ..." if len(wanted.too_short) > LINES_SHOWN else ""
        noun = "line" if len(wanted.too_short) == 1 else "lines"
        print(f"left out, too short to mean anything: {noun} {lines}{more} of {file}")
    for one in search.found[:LINES_SHOWN]:
        print(f"  found: {_place(one, file)}")
    if len(search.found) > LINES_SHOWN:
        print(f"  and {len(search.found) - LINES_SHOWN:,} more")
    none = "the name was not" if len(wanted.names) == 1 else f"none of the {len(wanted.names)} names were"
    where = f"{counted(search.files, 'file')} ({shown_bytes(search.bytes)})"
    if not search.found:
        print(f"{none} found in {where}")


def _place(one: FoundName, file: Path) -> str:
    where = f"in the name of {one.file}" if one.offset is None else f"in {one.file}, byte {one.offset}"
    return f"line {one.line} of {file} {where}"


def _was(lines: set[int]) -> str:
    return "was" if len(lines) == 1 else "were"


def _shown(paths: Sequence[Path]) -> Iterable[Path]:
    return progress(paths, what="searching", total=len(paths))
