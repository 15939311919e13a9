"""The corpus as a table in Markdown: ``python -m tests.cli.rubbish.table > table.md``."""

from tests.cli.rubbish.case import Case
from tests.cli.rubbish.corpus import SUBJECTS
from tests.cli.rubbish.desk import Desk, Outcome, Patterns, new_folder

LONGEST = 260


def row(case: Case, desk: Desk) -> str:
    """One line of the table: case, command, exit status and message."""
    argv, outcome = case.play(desk)
    said = case.message(outcome) if case.says else _last_line(outcome)
    cells = (case.name, f"`{argv[0]}`", str(outcome.status), _code(desk.shown(said)))
    return "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |"


def _last_line(outcome: Outcome) -> str:
    """What a command says where nothing is wrong."""
    return next((line for line in reversed(outcome.out.splitlines()) if line.strip()), "")


def _code(text: str) -> str:
    printable = text.encode(errors="replace").decode().strip()
    printable = printable if len(printable) <= LONGEST else printable[:LONGEST] + "…"
    return f"`` {printable} ``" if "`" in printable else f"`{printable}`"


def main() -> None:
    """Play every case and print what came of it."""
    with new_folder() as folder:
        patterns = Patterns(folder)
        for subject, cases in SUBJECTS.items():
            print(f"\n### {subject}: {len(cases)} cases\n\n| what is wrong | command | status | message |")
            print("|---|---|---|---|")
            for case in cases:
                with new_folder() as own:
                    print(row(case, Desk(own, patterns)), flush=True)


if __name__ == "__main__":
    main()
