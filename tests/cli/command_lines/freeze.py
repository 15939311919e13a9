"""Freezes what command lines give: ``python -m tests.cli.command_lines.freeze > …/of_0_1_0.json``.

Made once, in version 0.1.0, whose parser was another. Later versions must parse every line to the same.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tests.cli.command_lines.parsed import make_runs, parsed
from tests.cli.command_lines.typed import all_lines, of_saved_runs

ROOT = Path(__file__).parents[3]


def main() -> None:
    """Print the command lines, one a line, each with its difference to the first object of its kind."""
    lines = [*all_lines(ROOT), *of_saved_runs()]
    firsts: dict[str, Any] = {}
    print('{"lines": [')
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder))
        os.chdir(folder)
        for number, line in enumerate(lines):
            outcome = parsed(line)
            if "options" in outcome:
                flat = flattened(outcome["options"])
                kind = " ".join(
                    [line[0], *(str(flat[name]) for name in sorted(flat) if name.endswith(".is"))]
                )
                first = firsts.setdefault(kind, flat)
                changed = {name: value for name, value in flat.items() if first[name] != value}
                outcome = {"like": kind, "but": changed}
            comma = "," if number + 1 < len(lines) else ""
            print(compact({"typed": line, **outcome}) + comma)
    print(f'],\n"firsts": {compact(firsts)}}}')


def compact(value: Any) -> str:
    """JSON in as little room as can be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of nested objects by their paths, such as ``.training.lr``."""
    if not isinstance(value, dict) or "is" not in value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= flattened(part, f"{prefix}.{name}")
    return found


if __name__ == "__main__":
    main()
