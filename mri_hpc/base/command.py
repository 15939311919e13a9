"""The frame of every command: parsing by dataclass, one line for an error, exit status, JSON, progress."""

import errno
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mri_hpc.base.command_line import options_of, read
from mri_hpc.base.errors import UsageError, UserError, Verdict
from mri_hpc.base.exit_status import DONE, USER_CAN_FIX
from mri_hpc.base.interruption import say_interrupted
from mri_hpc.base.settings import nearest
from mri_hpc.base.shortage import shortage_in

T = TypeVar("T")
HELP = {"-h", "--help", "--help-all"}


@dataclass(frozen=True, kw_only=True)
class Action:
    """One action of a command, with options of its own."""

    options: type
    body: Callable[[Any], int | None]
    example: str


def run_command(
    name: str,
    options_type: type,
    body: Callable[[Any], int | None],
    argv: Sequence[str] | None = None,
    *,
    example: str,
    default: Callable[[], Any] | None = None,
    action: str = "",
) -> int:
    """Parse the command line into `options_type` and run `body`; return the exit status.

    `default` gives an object with the values of options that were not typed, or None. `action`: the word that
    was typed before them.

    The statuses are those of ``base.exit_status``. What the user can fix is one line on stderr, and with
    --json a document on stdout. `body` may return a status of its own. What is a bug escapes.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    called = f"{name} {action}".rstrip()

    def run() -> int | None:
        given = default() if default else None
        if not _asked(words) & HELP:
            return body(parse(called, options_type, words, default=given))
        # Work need not wait for what lays out a page.
        from mri_hpc.base.help_page import page_of_command

        options, with_all = list(options_of(options_type, given)), "--help-all" in _asked(words)
        print(page_of_command(called, options_type, options, example=example, with_all=with_all), end="")
        return DONE

    return status_of(run, name, words)


def run_action(
    name: str,
    outcome: str,
    actions: Mapping[str, Callable[[], Action]],
    argv: Sequence[str] | None = None,
    *,
    example: str,
) -> int:
    """Run the action that the first word names, on the words after it; return the exit status.

    actions: each is made, and what it needs is imported, when it is named or when all are listed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    word = words[0].replace("_", "-") if words else ""
    if word in actions:
        try:
            one = actions[word]()
        except KeyboardInterrupt:
            # On a busy network disk its imports take seconds.
            _forget_interruptions()
            return say_interrupted(name)
        return run_command(name, one.options, one.body, words[1:], example=one.example, action=word)

    def run() -> int:
        if not _asked(words) & HELP:
            typed = f"unrecognized options: {', '.join(words)}" if words else ""
            hint = (
                nearest(word, actions) or f"{'; ' if words else ''}expected one of {{{', '.join(actions)}}}"
            )
            raise UsageError(f"{typed}{hint}; see: {name} --help")
        from mri_hpc.base.help_page import page_of_actions

        types = {action: make().options for action, make in actions.items()}
        print(page_of_actions(name, outcome, types, example=example), end="")
        return DONE

    return status_of(run, name, words)


def parse(called: str, options_type: type, words: Sequence[str], *, default: Any = None) -> Any:
    """Parse the words as an object of `options_type`; raises UsageError where they do not fit.

    `default`, an object of that type, gives the values of options that were not typed.
    """
    try:
        return read(options_type, list(options_of(options_type, default)), words)
    except UsageError as error:
        raise UsageError(f"{error}; see: {called} --help") from None


def status_of(run: Callable[[], int | None], name: str, words: Sequence[str]) -> int:
    """Run a command; return its exit status, also where it raises what is no bug."""
    try:
        return _status_of(run, name, words)
    finally:
        _forget_interruptions()


def _status_of(run: Callable[[], int | None], name: str, words: Sequence[str]) -> int:
    asked = _asked(words)
    # A path may be no text, and a terminal may know few letters.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if "--version" in asked:
            from mri_hpc.base.version import version

            print(f"mri-hpc {version()}")
            return DONE
        status = run() or DONE
        # At exit it would be too late to say that there is no room for what was printed.
        _flush_stdout()
        return status
    except UserError as error:
        # Of what was looked at and is bad, the document is there already.
        as_json = "--json" in asked and not isinstance(error, Verdict)
        return _complain(name, str(error), kind=error.kind, as_json=as_json)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is left to say, also not at exit.
        _forget_stdout()
        return DONE
    except KeyboardInterrupt:
        return say_interrupted(name)
    except (OSError, MemoryError, ImportError, RuntimeError) as error:
        message = shortage_in(error)
        if not message:
            if not (isinstance(error, OSError) and is_users_to_fix(error)):
                raise
            message = described(error)
        return _complain(name, message, kind="system", as_json="--json" in asked)


def _forget_interruptions() -> None:
    """Let Python end with the status that it is given.

    After a KeyboardInterrupt amid an exec, as of a dataclass that is being made, it ends itself by SIGINT,
    also where that was caught, unless another exec has ended well since.
    """
    exec("", {})


def _asked(words: Sequence[str]) -> set[str]:
    """Return the words that may be options."""
    return set(words[: words.index("--")] if "--" in words else words)


def shown(path: Path) -> Path:
    """Write the path as it is typed from here: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def counted(count: int, noun: str) -> str:
    """Write a number of things for people."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shown_bytes(count: int) -> str:
    """Write a size for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def print_json(values: Any) -> None:
    """Print one JSON document for scripts; what is no finite number is null."""
    text = json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        # A path that is no UTF-8, or a terminal that is none.
        text = json.dumps(json.loads(text), indent=2)
    print(text)


def _finite(values: Any) -> Any:
    """Return the values with None for every NaN and infinity, for which JSON has no word."""
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


def is_users_to_fix(error: OSError) -> bool:
    """Tell whether an error of the system is about the user's files (no space, no permission, not there)."""
    return error.errno in {
        errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR,
        errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.EIO, errno.ESTALE, errno.ELOOP, errno.EFBIG,
        errno.EMFILE,
    }  # fmt: skip


def described(error: OSError) -> str:
    """Say what the system refused, where, and behind a semicolon what to do where that is known."""
    if lacking := shortage_in(error):
        return lacking
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    if error.errno == errno.EDQUOT:
        return f"{what}; quota -s shows what you may have: make room there, then run it again"
    if error.errno == errno.ENOSPC:
        return f"{what}; make room there, then run it again"
    if error.errno == errno.EFBIG:
        return f"{what}; raise the limit on the size of files (ulimit -f), then run it again"
    if error.errno == errno.EMFILE:
        return f"{what}; raise the limit on open files (ulimit -n), then run it again"
    if error.errno == errno.EROFS:
        return f"{what}; choose a place that can be written, or have that one mounted so, then run it again"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{what}; see who may read and write there (ls -l), then run it again"
    return what


def _complain(name: str, message: str, *, kind: str, as_json: bool) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    try:
        if as_json:
            print_json({"error": {"kind": kind, "message": message}})
        _flush_stdout()
    except OSError:
        # Nobody hears, or there is no room: the line on stderr has said it.
        _forget_stdout()
    return USER_CAN_FIX


def _flush_stdout() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _forget_stdout() -> None:
    """Let what could not be printed go nowhere, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
