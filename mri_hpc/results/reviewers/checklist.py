"""A checklist for reviewers, filled in by a run as far as it goes; the rest is named as only its author's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mri_hpc.results.pages.record import Record
from mri_hpc.results.reviewers.statements import sentences

Statement = Callable[[Record], str]
NOT_WRITTEN = "this run did not write it down"


def of_all_runs(records: Sequence[Record], statement: Statement) -> str:
    """Return what all runs say alike once, and else what each says, named."""
    names: dict[str, list[str]] = {}
    for record in records:
        names.setdefault(statement(record), []).append(record.name)
    if len(names) == 1:
        return next(iter(names))
    return " ".join(
        f"{' and '.join(whose)}: {words.rstrip('.') or 'not written down'}." for words, whose in names.items()
    )


@dataclass(frozen=True)
class Item:
    """One item of a checklist."""

    number: str
    """As in the checklist."""
    asks: str
    """Our short words for it."""
    statements: tuple[Statement, ...] = ()
    """Fill it, as far as a run knows; none where no run can."""
    yours: str = ""
    """Part that no run can know; empty where there is none."""

    def fill(self, records: Sequence[Record]) -> "Filled":
        """Fill it by what the runs of a study say, and name what only its author knows."""
        says = sentences(of_all_runs(records, statement) for statement in self.statements)
        return Filled(
            number=self.number,
            asks=self.asks,
            run_says=says,
            only_you_know=self.yours or ("" if says else NOT_WRITTEN),
        )


@dataclass(frozen=True, kw_only=True)
class Filled:
    """One item as a run fills it."""

    number: str
    asks: str
    run_says: str
    """Empty where only the author knows."""
    only_you_know: str
    """Empty where the run says all."""

    @property
    def state(self) -> str:
        """Tell how far it is filled."""
        if not self.run_says:
            return "only you know"
        return "in part" if self.only_you_know else "filled"


class Section:
    """Items below one heading."""

    def __init__(self, title: str, *items: Item) -> None:
        self.title = title
        self.items = items


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """The items of a checklist, by section."""

    name: str
    """Of its files."""
    title: str
    source: str
    """Its publication."""
    sections: tuple[Section, ...]

    def fill(self, records: Sequence[Record]) -> dict[str, list[Filled]]:
        """Fill all items, by section."""
        return {section.title: [item.fill(records) for item in section.items] for section in self.sections}
