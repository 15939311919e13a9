"""Names that an answer keeps back: patients go by pseudonyms and files by keys, as in a store of the site."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mri_hpc.intake.files.sources import root_name
from mri_hpc.intake.labels.images import Rejected, as_text
from mri_hpc.intake.labels.pseudonyms import KEY_BYTES, Pseudonyms, site_key
from mri_hpc.results.answers.answer import Answer, Judged


@dataclass(frozen=True, kw_only=True)
class KeptBack:
    """Names of one prediction, each replaced by what does not tell who it is."""

    paths: Sequence[Path]
    """Files and folders as they were given."""
    pseudonyms: Pseudonyms
    is_passing: bool = False
    """True where no later prediction has the same pseudonyms."""

    def of_answer(self, answer: Answer) -> Answer:
        """Return an answer that names no patient and no file."""

        def rename(image: Judged) -> Judged:
            return replace(image, name=self._key(image.name), patient=self.pseudonyms.patient(image.patient))

        return answer.renamed(rename, tuple(self.of_rejected(bad) for bad in answer.rejected))

    def of_rejected(self, bad: Rejected) -> Rejected:
        """Return a rejection that names no file."""
        return replace(bad, path=Path(self._key(as_text(bad.path))))

    def _key(self, name: str) -> str:
        """Return the key of a file, the same as in a store if it was given below the same folder."""
        file = Path(name)
        root = max(
            (path for path in self.paths if path != file and file.is_relative_to(path)),
            key=lambda path: len(path.parts),
            default=file.parent,
        )
        return f"{self.pseudonyms.source_key(root_name(root), str(file.relative_to(root))):016x}"


def pseudonyms_here(key_file: Path) -> Pseudonyms | None:
    """Make pseudonyms by the site's key; None where this user has none, and none is made."""
    if not (key_file.is_file() and os.access(key_file, os.R_OK)):
        return None
    return Pseudonyms(site_key(key_file, key_file.stat().st_gid))


def passing_pseudonyms() -> Pseudonyms:
    """Make pseudonyms by a key that is kept nowhere: they hold for one prediction alone."""
    return Pseudonyms(os.urandom(KEY_BYTES))
