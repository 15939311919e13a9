"""where_it_looks.json: how well a model's heat maps meet the boxes of findings, beside the head's centre."""

import json
from dataclasses import asdict, dataclass

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over patients, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One measure of the network's heat maps and of the centre of the head, by patient."""

    network: Estimate
    centre: Estimate
    gain: Estimate
    """Network less centre, of the same patients."""


@dataclass(frozen=True, kw_only=True)
class WhereItLooks:
    """Score of the heat maps of one model on test patients; no name is in it."""

    model_digest: str
    patients: int = 0
    """Those with a box around their finding."""
    images: int = 0
    """Of theirs, those that were scored."""
    layer: str = ""
    """Of the network, whose feature map is shown."""
    side: int = 0
    """Of that feature map."""
    hits: Compared | None = None
    """Pointing game: the hottest point lies in the box."""
    energy: Compared | None = None
    """Share of the heat in the box."""
    reason: str = ""
    """Reason why there is no score."""

    @property
    def beats_centre(self) -> bool:
        """Tell whether both measures are above those of the head's centre, by their whole intervals."""
        return bool(self.hits and self.energy and self.hits.gain.low > 0 and self.energy.gain.low > 0)


def read_where_it_looks(run: RunDir) -> WhereItLooks | None:
    """Read the score; None before it was asked for. Raises UserError."""
    try:
        values = without_format(parse(run.where_it_looks.read_bytes()), of=run.where_it_looks, reads=FORMAT)
        return convert(values, WhereItLooks)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{run.where_it_looks} is not what report --pictures wrote ({error}): remove it, and ask again"
        ) from None


def write_where_it_looks(run: RunDir, score: WhereItLooks) -> None:
    """Publish the score, in place of that before."""
    document = json.dumps(with_format(FORMAT, asdict(score)), indent=1)
    replace_bytes(run.where_it_looks, document.encode() + b"\n")
