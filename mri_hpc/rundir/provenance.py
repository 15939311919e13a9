"""provenance.json: the origin of a finished model, as plain values."""

import json
from collections.abc import Mapping
from typing import Any

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir

FORMAT = 1


def write_provenance(run: RunDir, values: Mapping[str, Any]) -> None:
    """Publish the origin of a run's model."""
    document = json.dumps(with_format(FORMAT, values), indent=1)
    replace_bytes(run.provenance, document.encode() + b"\n")


def read_provenance(run: RunDir) -> Mapping[str, Any]:
    """Read provenance.json; empty while the run is not finished. Raises UserError."""
    try:
        values = parse(run.provenance.read_bytes())
        return without_format(values, of=run.provenance, reads=FORMAT)
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{run.provenance} cannot be read: {error}; restore it from a backup") from None
    except ValueError:
        raise UserError(f"{run.provenance} is not what a run wrote; restore it from a backup") from None
