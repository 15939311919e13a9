"""``mri-hpc COMMAND …`` is ``python -m mri_hpc.COMMAND …``."""

import importlib
import sys

import mri_hpc
from mri_hpc.base.interruption import say_interruptions

COMMANDS = {
    "doctor": "whether this machine, its file systems and its cluster carry the work",
    "preprocess": "images of one folder into the store: adds what is new",
    "store": "what is in a store; verify, compact, audit, relabel, retract, export, prove",
    "weights": "fetch published weights to start from, where there is internet access",
    "launch": "submit or resume a training run on Slurm, or on this machine",
    "train": "one rank of a run: what launch starts",
    "status": "how a run is doing, and what it has lost",
    "evaluate": "metrics of a run, by slice and by patient, with intervals",
    "compare": "two runs on the test patients that they share: the difference, with its interval",
    "report": "one HTML page about a run",
    "predict": "probabilities for images and patients, from a finished run",
    "models": "which models are kept apart from their runs, and which one predict asks",
    "watch": "new images to a proposed model, one link at a time; as a chain of jobs on Slurm",
    "export-metrics": "curves and settings of a run, to a tracker such as MLflow",
    "verify-run": "do some steps of a run again: is it what it recorded, to the bit?",
}


def main() -> int:
    """Run the named command; return its exit status."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "--help-all"):
        print("usage: mri-hpc COMMAND [options]\n")
        print("\n".join(f"  {name:<16}{outcome}" for name, outcome in COMMANDS.items()))
        print("\nmri-hpc COMMAND --help explains one. Research use only.")
        return 0
    if arguments[0] == "--version":
        print(f"mri-hpc {mri_hpc.__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        return _refuse(arguments)
    say_interruptions(f"mri-hpc {arguments[0]}")
    return importlib.import_module(f"mri_hpc.{arguments[0].replace('-', '_')}").main(arguments[1:])


def _refuse(arguments: list[str]) -> int:
    """Refuse a command that is none, as commands refuse."""
    from mri_hpc.base.command import status_of
    from mri_hpc.base.errors import UsageError
    from mri_hpc.base.settings import nearest

    def run() -> int:
        hint = nearest(arguments[0], COMMANDS) or "; see: mri-hpc --help"
        raise UsageError(f"no command {arguments[0]!r}{hint}")

    return status_of(run, "mri-hpc", arguments)


if __name__ == "__main__":
    sys.exit(main())
