"""A person makes a model the current one, or takes that back."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.registry.adding import compared_before, pair_with
from mri_hpc.registry.evidence import (
    AUDIT,
    NOT_WORSE,
    RETRACTED,
    WORDS,
    beside_current,
    of_audit,
    of_retractions,
)
from mri_hpc.registry.gate import Pair
from mri_hpc.registry.history import Entry, Kind, add_entry, follow, line_of, promoted_record, read_history
from mri_hpc.registry.layout import MODELS, ModelsDir
from mri_hpc.registry.record import Evidence, Record, Verdict, check_files, read_record, record_digest
from mri_hpc.registry.retracted import accepted_of, retracted_since

BY_RULE = "watch --promote auto: all that is asked was met"


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """Outcome of a promotion, or of a rollback."""

    entry: Entry
    before: str
    """Name of the model that was current; empty where there was none."""
    note: str = ""
    """For people, where something is left to do."""
    is_new: bool = True
    """False where it was current already, with nothing to decide."""


def promote(
    models: ModelsDir, name: str, because: str, accepted: Collection[str], *, is_automatic: bool = False
) -> Promoted:
    """Make a model the current one; UserError where a requirement is open, and not accepted by its word.

    What was accepted of the current one stays accepted: retractions since then alone are asked about. One
    that is current by a rule becomes so by a person's word. is_automatic: by a rule, and by no person.
    """
    _refuse_unknown_words(accepted)
    # The line that is printed to be typed has points in its place.
    if not any(letter.isalnum() for letter in because):
        raise UserError(
            '--because is for those who ask later: say why, as in --because "not worse, more data"'
        )
    entries = read_history(models)
    record = read_record(models, name)
    check_files(models, record)
    line = line_of(entries)
    before = line[-1] if line else None
    evidence, gate = evidence_now(models, record, entries, before)
    retracted = retracted_since(models, record, entries)
    opened = _open_now(evidence, name, before)
    if before and before.name == name:
        promoted_record(models, before)
    is_confirmed = bool(before and before.is_automatic) and not is_automatic
    is_asked = is_confirmed or bool(retracted.beyond(accepted_of(entries, name)))
    if before and before.name == name and not is_asked:
        # A promotion that was killed as it ended is put right.
        follow(models)
        return Promoted(entry=before, before=name, is_new=False)
    accepted = {*accepted, *_accepted_before(name, before)}
    _refuse_open(models, name, evidence, [word for word in opened if word not in accepted])
    entry = Entry(
        number=len(entries) + 1,
        kind=Kind.PROMOTE,
        name=name,
        model_digest=record.model_digest,
        record=record_digest(models, name),
        because=because.strip(),
        evidence=evidence,
        gate=gate,
        accepted=tuple(word for word in WORDS if word in opened and word in accepted),
        retractions=retracted.commits if RETRACTED in accepted else (),
        is_automatic=is_automatic,
    )
    note = add_entry(models, entry)
    return Promoted(entry=entry, before=before.name if before else "", note=note)


def line_to_promote(models: ModelsDir, name: str, evidence: Sequence[Evidence] = ()) -> str:
    """Write what a person types to make a model current, with the words of all that would be refused now.

    evidence: as it was found a moment ago; found anew where it is empty.
    """
    entries = read_history(models)
    line = line_of(entries)
    before = line[-1] if line else None
    if not evidence:
        evidence, _gate = evidence_now(models, read_record(models, name), entries, before)
    earlier = _accepted_before(name, before)
    opened = [word for word in _open_now(evidence, name, before) if word not in earlier]
    place = [] if models.path == MODELS else ["--models", str(models.path)]
    words = ["mri-hpc", "models", "promote", name, *place, *(["--accept", *opened] if opened else [])]
    label = "next, where you accept what is open" if opened else "next"
    return f'{label}: {shlex.join(words)} --because "..."'


def promote_by_rule(models: ModelsDir, name: str) -> Promoted | None:
    """Make a model current where all that is asked of it is met; None else, or where it was decided before.

    Whoever has rolled it back is not overruled.
    """
    entries = read_history(models)
    if any(one.name == name for one in entries):
        return None
    line = line_of(entries)
    before = line[-1] if line else None
    evidence, _gate = evidence_now(models, read_record(models, name), entries, before)
    if open_words(evidence, has_current=bool(before)):
        return None
    return promote(models, name, BY_RULE, (), is_automatic=True)


def rollback(models: ModelsDir, because: str) -> Promoted:
    """Make the model current that was so before the one that is now; UserError where there was none."""
    entries = read_history(models)
    line = line_of(entries)
    if len(line) < 2:
        now = f"{line[-1].name} is the first one" if line else "no model was promoted yet"
        raise UserError(f"{models.path}: there is no model to go back to: {now}")
    last, before = line[-1], line[-2]
    record = promoted_record(models, before)
    commits = retracted_since(models, record, entries).beyond(accepted_of(entries, before.name))
    if commits:
        raise UserError(refusal(models, before.name, len(commits)))
    entry = Entry(
        number=len(entries) + 1,
        kind=Kind.ROLLBACK,
        name=before.name,
        model_digest=record.model_digest,
        record=record_digest(models, before.name),
        because=because.strip(),
    )
    return Promoted(entry=entry, before=last.name, note=add_entry(models, entry))


def evidence_now(
    models: ModelsDir, record: Record, entries: Sequence[Entry], current: Entry | None
) -> tuple[tuple[Evidence, ...], tuple[str, ...]]:
    """Return what speaks for a model now, and the gate patients on whom it was compared anew for that.

    Retractions and audits are looked for anew. Beside the current model all comparisons up to now count: who
    picks one of ten models has made ten. None are gate patients on whom the two were compared before.
    """
    retracted = of_retractions(retracted_since(models, record, entries))
    audited = of_audit(models.run(record.name))
    kept = [one for one in record.evidence if one.word not in (AUDIT, RETRACTED)]
    if not current or current.name == record.name:
        return (*kept, audited, retracted), ()
    pair = pair_with(models, models.run(record.name), current)
    gate = pair.units if isinstance(pair, Pair) else ()
    is_further = current.name != record.compared_with
    num = compared_before(models, entries, gate) + is_further
    found = beside_current(models.run(record.name), pair, margin=record.margin, comparisons=num)
    rest = [one for one in kept if one.word not in {one.word for one in found}]
    return (*found, *rest, audited, retracted), gate if is_further else ()


def open_words(evidence: Sequence[Evidence], *, has_current: bool) -> list[str]:
    """List the words of what is not met, or not known; the first model need not be as good as another."""
    return [
        one.word
        for one in evidence
        if one.verdict is not Verdict.MET and (has_current or one.word != NOT_WORSE)
    ]


def refusal(models: ModelsDir, name: str, num: int) -> str:
    """Say why a model is not asked that has learnt from retracted images, and what a person can do."""
    which = "a retraction" if num == 1 else f"{num} retractions"
    return (
        f"{models.path / name} has learnt from images that {which} took out since, and is not asked any "
        f"more: promote one that has not, or accept it: mri-hpc models promote {name} --accept {RETRACTED} "
        "--because WHY"
    )


def _open_now(evidence: Sequence[Evidence], name: str, before: Entry | None) -> list[str]:
    """List the words that are open of a model that is to be current. before: that which is so now."""
    return open_words(evidence, has_current=bool(before and before.name != name))


def _accepted_before(name: str, before: Entry | None) -> set[str]:
    """Return what stays accepted of the current model."""
    return {*before.accepted} - {RETRACTED} if before and before.name == name else set()


def _refuse_unknown_words(accepted: Collection[str]) -> None:
    for word in accepted:
        if word not in WORDS:
            raise UserError(f"--accept takes {', '.join(WORDS)}, got {word!r}{nearest(word, WORDS)}")


def _refuse_open(models: ModelsDir, name: str, evidence: Sequence[Evidence], opened: Sequence[str]) -> None:
    if opened:
        found = "; ".join(f"{one.word} {one.verdict}: {one.words}" for one in evidence if one.word in opened)
        raise UserError(
            f"{models.path / name} is not promoted ({found}); where a person decides so all the same: "
            f"--accept {' '.join(opened)}"
        )
