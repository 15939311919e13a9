"""pooling.json: whether gated attention pools a patient's slices, by validation, where it was tried."""

from dataclasses import asdict, dataclass

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import with_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal
from mri_hpc.rundir.kept import read_of_model
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.provenance import read_provenance

FORMAT = 1
FEWEST = 20
"""Validation patients, below which nothing is chosen, as no temperature is fitted."""


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Gated attention beside the mean, on validation patients who chose between them."""

    model_digest: str
    answers_digest: str = ""
    """Of attention.csv."""
    is_kept: bool = False
    num: int = 0
    """Validation patients."""
    mean_log_loss: float | None = None
    """Of these, pooled by the mean, each at the temperature that the other patients give."""
    attention_log_loss: float | None = None
    fraction_better: float | None = None
    """Resamples of patients in which attention has the lower one."""
    reason: str = ""
    """Reason for which there are no figures."""

    @property
    def was_chosen(self) -> bool:
        """Tell whether validation patients chose between the two."""
        return not self.reason

    @property
    def words(self) -> str:
        """Say which won, and by how much."""
        if not self.was_chosen:
            return f"Gated attention over a patient's slices is not used: {self.reason}."
        assert self.mean_log_loss is not None and self.attention_log_loss is not None
        assert self.fraction_better is not None
        verdict = (
            "Slices are pooled by gated attention"
            if self.is_kept
            else "Gated attention over a patient's slices was tried, and is not kept"
        )
        return (
            f"{verdict}: on {self.num} validation patients, who chose the epoch too, its log loss is "
            f"{self.attention_log_loss:.3f} and that of the mean {self.mean_log_loss:.3f}; it is lower in "
            f"{100 * self.fraction_better:.0f} % of resamples of these patients{self._rule}."
        )

    @property
    def _rule(self) -> str:
        """Say what was asked for, of a choice that the lower log loss does not explain."""
        is_lower = (self.attention_log_loss or 0.0) < (self.mean_log_loss or 0.0)
        return ", and 95 % were asked for then" if is_lower and not self.is_kept else ""


def read_pooling(run: RunDir) -> Pooling | None:
    """Read pooling.json; None where attention was not tried. UserError where it is damaged, or gone."""
    found = read_of_model(run.pooling, run, Pooling, reads=FORMAT)
    if found is None and run.is_finished and read_provenance(run).get("attention_digest"):
        # Without it the mean would answer in place of attention, and more would be promised.
        raise UserError(f"{run.pooling} is gone, and this run has tried attention: restore it from a backup")
    return found


def write_pooling(run: RunDir, pooling: Pooling) -> None:
    """Publish pooling.json."""
    replace_bytes(run.pooling, seal(with_format(FORMAT, asdict(pooling))))
