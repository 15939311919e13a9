"""The model that a prediction names: found in the folder of models, whole, and fit to be asked."""

from dataclasses import dataclass

from mri_hpc.base.errors import UserError
from mri_hpc.registry.history import current_of, promoted_record, read_history
from mri_hpc.registry.layout import CURRENT, ModelsDir
from mri_hpc.registry.promoting import refusal
from mri_hpc.registry.record import check_files, read_record
from mri_hpc.registry.retracted import accepted_of, retracted_since
from mri_hpc.rundir.layout import RunDir


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model that is to be asked."""

    run: RunDir
    """Folder of its record."""
    name: str
    model_digest: str
    since: str
    """Day and minute, UTC, from which on it is current; empty where it is not."""
    is_automatic: bool = False
    """It is current by a rule, and by no person's word."""


def model_named(models: ModelsDir, name: str) -> NamedModel:
    """Find a model by its name, or the current one; UserError where it is damaged, or is not to be asked."""
    entries = read_history(models)
    current = current_of(models, entries)
    if name == CURRENT and not current:
        raise UserError(
            f"{models.path} has no current model: mri-hpc models add RUN adds one, and "
            'mri-hpc models promote NAME --because "..." makes it current'
        )
    promoted = current if current and name in (CURRENT, current.name) else None
    if promoted:
        record = promoted_record(models, promoted)
    else:
        record = read_record(models, name)
        check_files(models, record)
    commits = retracted_since(models, record, entries).beyond(accepted_of(entries, record.name))
    if commits:
        raise UserError(refusal(models, record.name, len(commits)))
    since = promoted.when if promoted else ""
    return NamedModel(
        run=models.run(record.name),
        name=record.name,
        model_digest=record.model_digest,
        since=since,
        is_automatic=bool(promoted and promoted.is_automatic),
    )
