"""The state of a run as people see it: from its folder, and from its scheduler."""

import shlex
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from mri_hpc.base.command import print_json, shown
from mri_hpc.base.exit_status import DONE, USER_CAN_FIX
from mri_hpc.cluster.run_picture import picture
from mri_hpc.cluster.views import View, Watcher
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.summary import State

REFRESH_S = 1.0


def watch(run: RunDir, *, is_done: Callable[[View], bool] = lambda view: view.has_ended) -> View:
    """Show the run until `is_done`, on a terminal as a picture, else in lines; return the last view."""
    watcher, console = Watcher(run), Console(stderr=False)
    view = watcher.look()
    if not console.is_terminal:
        return _watch_in_lines(watcher, view, is_done)
    with Live(picture(run, view), console=console, auto_refresh=False) as live:
        while not is_done(view):
            time.sleep(REFRESH_S)
            view = watcher.look()
            live.update(picture(run, view), refresh=True)
    return view


def follow(run: RunDir, *, as_json: bool) -> int:
    """Follow a run until it ends; return 0 only if it is finished. Ctrl-C ends the following alone."""
    try:
        view = watch_silently(run) if as_json else watch(run)
    except KeyboardInterrupt:
        print("\nfollowing ended; the run goes on", file=sys.stderr)
        return DONE
    if as_json:
        print_json({"run": str(run.path), **view.summary.to_dict()})
    elif view.summary.state == State.FINISHED:
        print_next(run)
    return status_of(run, view)


def status_of(run: RunDir, view: View) -> int:
    """Return 0 only if the run is finished; else say why not."""
    if view.summary.state == State.FINISHED:
        return DONE
    state = view.summary.state.replace("_", " ")
    print(
        f"mri-hpc launch: {shown(run.path)}: {state}; {view.summary.reason or 'no reason known'}",
        file=sys.stderr,
    )
    for line in view.summary.last_words:
        print(f"  {line}", file=sys.stderr)
    return USER_CAN_FIX


def print_next(run: RunDir) -> None:
    """Say what to type next to those who see that a run is finished."""
    folder = shlex.quote(str(shown(run.path)))
    print(f"  next    python -m mri_hpc.evaluate {folder}, python -m mri_hpc.report {folder}")


def watch_silently(run: RunDir) -> View:
    """Wait until the run has ended; return its last view."""
    watcher = Watcher(run)
    view = watcher.look()
    while not view.has_ended:
        time.sleep(REFRESH_S)
        view = watcher.look()
    return view


def _watch_in_lines(watcher: Watcher, view: View, is_done: Callable[[View], bool]) -> View:
    printed, advice = "", ""
    while True:
        line, probe = _line(view), view.summary.probe
        if probe and probe.sentence != advice:
            advice = probe.sentence
            print(f"probe: {advice}", flush=True)
        if line != printed:
            print(line, flush=True)
            printed = line
        if is_done(view):
            return view
        time.sleep(REFRESH_S)
        view = watcher.look()


def _line(view: View) -> str:
    """Write the values of which each change is worth a line of its own."""
    summary = view.summary
    parts = [summary.state, f"epoch={summary.epoch}/{view.epochs}", f"saved_step={summary.saved_step}"]
    if summary.validation_loss is not None:
        parts.append(f"validation_loss={summary.validation_loss:.4f}")
    parts.append(f"restarts={summary.restarts}")
    if summary.state in (State.PENDING, State.REQUEUED) and summary.reason:
        # Where it would wait for ever, this says what to type.
        parts.append(f"({summary.reason})")
    return " ".join(parts)
