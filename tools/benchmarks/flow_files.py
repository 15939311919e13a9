"""Files that the flows of docs/architecture.md enter, and the shape of the house: two checkouts side by side.

    python tools/benchmarks/flow_files.py CHECKOUT...        (git archive TAG | tar x -C CHECKOUT)

A file is entered where one of its functions is called: seen by a profiler in every process of the flow, in
all of its threads. Files of base/ are not counted: they are on the way of everything. An image: preprocess of
8 patients' JPEGs, into a new store. A signal: from its arrival, in whoever hears it, to the end of the run,
which has begun on this machine and is cancelled. A setting: launch --dry-run with one that was typed. A
retraction: store retract of one of the patients. An error: store info of a folder that is no store.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

DEADLINE_S = 300.0
TRACER = """
import os, sys, threading, atexit
_root, _out, _since = os.environ["FLOW_ROOT"], os.environ["FLOW_OUT"], os.environ["FLOW_SINCE"]
_seen, _on = set(), not _since
def _profile(frame, event, arg):
    global _on
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(_root):
        return
    name = code.co_filename[len(_root):]
    _on = _on or name + ":" + code.co_name == _since
    # Of the bodies of classes and modules, which importing runs, the flag of functions is not set.
    if _on and code.co_flags & 2 and not code.co_name.startswith("<") and name not in _seen:
        _seen.add(name)
        with open(os.path.join(_out, str(os.getpid())), "a") as file:
            file.write(name + chr(10))
sys.setprofile(_profile)
threading.setprofile(_profile)
"""


def main(checkouts: list[Path]) -> None:
    """Print the figures of each checkout."""
    for checkout in checkouts:
        with tempfile.TemporaryDirectory() as folder:
            entered = _walk(checkout.resolve(), Path(folder))
        print(json.dumps({"checkout": str(checkout), **_shape(checkout), "entered": entered}, indent=2))


def _walk(checkout: Path, folder: Path) -> dict[str, int]:
    """Walk all flows; return the number of files that each enters."""
    (folder / "sitecustomize.py").write_text(TRACER)
    _draw(folder / "raw")
    store = ["--store", "st"]
    launch = [
        *("launch", *store, "--nodes", "1", "--tasks-per-node", "1", "--gpus-per-node", "0"),
        *("--cluster", "local", "--model", "shufflenet_v2_x0_5", "--batch-size", "4", "--epochs", "500"),
        *("--run", "run"),
    ]
    flows = {
        "image": _entered(
            checkout, folder, "image", ["preprocess", "--source", "raw", *store, "--size", "64"]
        )
    }
    flows["setting"] = _entered(checkout, folder, "setting", [*launch, "--lr", "0.001", "--dry-run"])
    _entered(checkout, folder, "signal", launch, since="base/stop_flag.py:_remember")
    _wait_for(folder / "run" / "metrics.jsonl")
    flows["signal"] = _entered(checkout, folder, "signal", ["launch", "--run", "run", "--cancel"], since="-")
    flows["retraction"] = _entered(
        checkout, folder, "retraction", ["store", "retract", "st", "--patient", "p3", "--yes"]
    )
    flows["error"] = _entered(checkout, folder, "error", ["store", "info", "raw"])
    return flows


def _entered(checkout: Path, folder: Path, flow: str, words: list[str], since: str = "") -> int:
    out = folder / f"entered-{flow}"
    out.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PYTHONPATH": f"{folder}{os.pathsep}{checkout}",
        "FLOW_ROOT": f"{checkout}/mri_hpc/",
        "FLOW_OUT": str(out),
        "FLOW_SINCE": since,
    }
    done = subprocess.run(
        [sys.executable, "-m", f"mri_hpc.{words[0]}", *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    if done.returncode not in (0, 2) or (done.returncode == 2) != (flow == "error"):
        sys.exit(f"{' '.join(words)}: status {done.returncode}: {done.stderr}")
    names = {name for file in out.iterdir() for name in file.read_text().split()}
    kept = sorted(name for name in names if not name.startswith("base/"))
    if os.environ.get("FLOW_NAMES"):
        print(flow, *kept, sep="\n  ", file=sys.stderr)
    return len(kept)


def _wait_for(path: Path) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not (path.exists() and path.stat().st_size):
        if time.monotonic() > until_s:
            sys.exit(f"{path} did not come")
        time.sleep(0.2)


def _draw(root: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(16):
        folder = root / ("glioma" if number % 2 else "no_tumor") / f"p{number}"
        folder.mkdir(parents=True)
        for slice_ in range(2):
            grey = random.integers(0, 255, (64, 64), np.uint8)
            Image.fromarray(grey).save(folder / f"{slice_}.jpg")


def _shape(checkout: Path) -> dict[str, object]:
    """Count folders, files, names that rooms import of one another, and lines of functions and files."""
    files = {path: path.read_text() for path in sorted((checkout / "mri_hpc").rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in files.items()}
    functions = [
        (node.end_lineno - node.lineno + 1, f"{path.relative_to(checkout)}:{node.name}")
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    lines = [(len(text.splitlines()), str(path.relative_to(checkout))) for path, text in files.items()]
    return {
        "folders": len({path.parent for path in files}),
        "files": len(files),
        "files_over_300": sum(number > 300 for number, _name in lines),
        "names_across_rooms": len({name for path, tree in trees.items() for name in _across(path, tree)}),
        "store_names_outside": len(
            {
                name
                for path, tree in trees.items()
                if not {"storage", "chunks"} & {*path.parts}
                for name in _across(path, tree)
                if name.startswith(("mri_hpc.storage.", "mri_hpc.chunks."))
            }
        ),
        "longest_function": max(functions),
        "median_function": sorted(functions)[len(functions) // 2][0],
        "longest_file": max(lines),
        "tests": sum(
            text.count("\ndef test_") + text.count("    def test_")
            for text in (path.read_text() for path in (checkout / "tests").rglob("*.py"))
        ),
    }


def _across(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file imports of rooms other than its own."""
    own = path.parent.name if path.parent.name != "mri_hpc" else ""
    rooms = {part for part in path.parts} if own else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mri_hpc."):
            room = node.module.split(".")[1]
            if room not in rooms:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
