"""Models by which patients were predicted before, as the tables of that prediction say."""

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EarlierModel:
    """Model of the last prediction of a patient."""

    digest: str
    made: str
    """Day and minute of that prediction, UTC."""
    predicted: str
    """Class that was the most probable one."""
    name: str = ""
    """Name of the model, of one that is kept."""

    @property
    def words(self) -> str:
        """Name it, with its date."""
        return f"{f'{self.name}, ' if self.name else ''}{self.digest}, {self.made}"


def models_before(out: Path) -> dict[str, EarlierModel]:
    """Read by which model each patient of a folder of predictions was predicted; none where nothing tells.

    Patients go by the names of that prediction: pseudonyms, or with --names those of the source.
    """
    try:
        with (out / "patients.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        # A table of another hand, or none: then nothing is known of before.
        return {}
    return {
        row["patient"]: EarlierModel(
            digest=row["model_digest"],
            made=row["made"],
            predicted=row["predicted"],
            name=row.get("model") or "",
        )
        for row in rows
        if all(row.get(column) for column in ("patient", "model_digest", "made", "predicted"))
    }
