"""What every command shares: parsing by dataclass, one line for an error, an exit status, JSON, progress."""

import errno
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE, INTERRUPTED, USER_CAN_MEND
from mri_hpc.base.help_page import described, in_lines, make_plain, num_columns
from mri_hpc.base.usage import in_one_line

T = TypeVar("T")
# A switch that is off unless it is typed: --help then names no --no-... beside it.
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def run_command(
    name: str,
    options_type: Any,
    body: Callable[[Any], int | None],
    argv: Sequence[str] | None = None,
    *,
    example: str,
    default: Callable[[], Any] | None = None,
) -> int:
    """Parse the command line into `options_type` and run `body`; returns the exit status.

    `default` gives an object with the values of options that were not typed, or None.

    0: done. 2: the user can mend it, one line on stderr says how. Anything else that escapes is a bug: a
    traceback, and Python's exit status 1. `body` may return a status of its own.
    """
    try:
        options = parse(name, options_type, argv, example=example, default=default() if default else None)
        return body(options) or DONE
    except UserError as error:
        return _complain(name, str(error))
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is left to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if not is_users_to_mend(error):
            raise
        return _complain(name, _described(error))


def parse(
    name: str, options_type: Any, argv: Sequence[str] | None = None, *, example: str, default: Any = None
) -> Any:
    """The command line as an object of `options_type`; exits with 2 and a message where it does not fit.

    `default`, an object of that type, gives the values of options that were not typed.
    """
    keywords = {} if default is None else {"default": default}
    make_plain(options_type)
    columns = num_columns()
    with in_one_line(name), in_lines(columns):
        return tyro.cli(
            options_type,
            prog=name,
            description=described(options_type, example, columns),
            args=argv,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.DisallowNone),
            **keywords,
        )


def shown(path: Path) -> Path:
    """The path as it is typed from here: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def counted(count: int, noun: str) -> str:
    """A number of things for people."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shown_bytes(count: int) -> str:
    """A size for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def print_json(values: Any) -> None:
    """Print one JSON document for scripts; what is no finite number is null."""
    print(json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(values: Any) -> Any:
    """The values with None for every NaN and infinity, for which JSON has no word."""
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def progress(items: Iterable[T], *, what: str, total: int | None = None) -> Iterable[T]:
    """Show a progress bar while iterating; silent where stderr is not a terminal, as in a batch job."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=what, total=total, console=Console(stderr=True), transient=True)


def is_users_to_mend(error: OSError) -> bool:
    """Whether an operating system error is about the user's files (no space, no permission, not there)."""
    return error.errno in {
        errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR,
        errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.EIO, errno.ESTALE, errno.ELOOP, errno.EFBIG,
        errno.EMFILE,
    }  # fmt: skip


def _described(error: OSError) -> str:
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}; make room there, then run it again"
    if error.errno == errno.EFBIG:
        return f"{what}; raise the limit on the size of files (ulimit -f), then run it again"
    if error.errno == errno.EMFILE:
        return f"{what}; raise the limit on open files (ulimit -n), then run it again"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{what}; see who may read and write there (ls -l), then run it again"
    return what


def _complain(name: str, message: str) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return USER_CAN_MEND
