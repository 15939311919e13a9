"""Command lines: those that stand in the documents, scripts and tests, and some for every option."""

import ast
import dataclasses
import importlib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mri_hpc.__main__ import COMMANDS

CALL = re.compile(r"""(?:-m mri_hpc\.|mri-hpc )(\w+)((?:(?!\s#)[^|;&>`\n)])*)""")
# What a value that is made when a test runs stands for.
MADE = "1"

NEEDED = {
    "preprocess": [], "launch": [], "train": ["--run", "r"], "status": ["r"], "evaluate": ["r"],
    "compare": ["r", "q"],
    "report": ["r"], "predict": ["r", "a", "b"], "weights fetch": ["resnet50"], "weights list": [],
    "store info": ["s"], "store verify": ["s"], "store export": ["s", "--single", "f"],
    "store sheet": ["s", "o.png"], "store compact": ["s"], "store audit": ["s"],
    "store relabel": ["s", "--labels", "l.csv"], "store retract": ["s", "--patient", "p"],
    "store who-used": ["s", "p"],
}  # fmt: skip
"""The least that each command and action must be given."""

VALUES = {
    int: ["3", "0", "-1", "+5", " 7", "007", "1_000", "3.0", "1e3", "0x10", "many", "", "None", "none"],
    float: [
        "0.5", "3", "-1", "-.5", "1e-3", "-1e-3", ".5", "1_0.5", "nan", "inf", "-inf", "1,5", "x", "", "None",
    ],
    str: ["x", "two words", "", "-x", "--x", "-1", "None", "none", "a=b", "=", "'q'", "grün"],
    Path: ["a/b", "~/x", ".", "", "-", "-x", "--", "a b", "None", "//x/../y/", "a=b"],
    bool: ["True", "true", "False", "0"],
}  # fmt: skip


def all_lines(root: Path) -> list[list[str]]:
    """Every command line, each once, its first word the command."""
    lines = [*of_texts(root), *of_python(root), *generated()]
    return [list(line) for line in dict.fromkeys(map(tuple, lines))]


def of_texts(root: Path) -> Iterator[list[str]]:
    """Those of documents, scripts, docstrings and messages."""
    files = [root / "README.md", *sorted((root / "hpc").rglob("*")), *sorted((root / "tools").rglob("*"))]
    files += [*sorted((root / "tests").rglob("*.py")), *sorted((root / "mri_hpc").rglob("*.py"))]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts and "command_lines" not in file.parts:
            text = file.read_text(encoding="utf-8").replace("\\\n", " ").replace('"$MRI_PYTHON"', "python")
            for command, rest in CALL.findall(text.replace('"$python"', "python")):
                try:
                    words = shlex.split(rest)
                except ValueError:
                    continue
                if command in COMMANDS:
                    yield [command, *words]


def of_python(root: Path) -> Iterator[list[str]]:
    """Those that tests and tools put together, or hand to a function with the name of a command."""
    for file in [*sorted((root / "tests").rglob("*.py")), *sorted((root / "tools").rglob("*.py"))]:
        if "command_lines" in file.parts:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        mains = re.findall(r"from mri_hpc\.(\w+) import .*\bmain\b", file.read_text(encoding="utf-8"))
        of_file = [name for name in mains if name in COMMANDS]
        for node in ast.walk(tree):
            yield from _of_node(node, of_file)


def _of_node(node: ast.AST, of_file: Sequence[str]) -> Iterator[list[str]]:
    if isinstance(node, ast.List | ast.Tuple):
        words = [_word(part) for part in node.elts]
        heads: list[str] = []
    elif isinstance(node, ast.Call):
        words = [_word(part) for part in node.args]
        heads = [name for name in COMMANDS if name == _name(node.func)]
    else:
        return
    options = [word for word in words if word.startswith("--")]
    if words and words[0] in COMMANDS:
        yield words
    elif options and not any(" " in option for option in options):
        for command in heads or of_file or ("launch", "preprocess"):
            takes_places = command not in ("launch", "preprocess")
            yield [command, *(words if takes_places else words[words.index(options[0]) :])]


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _word(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else MADE


def generated() -> Iterator[list[str]]:
    """For every option of every command: each kind of value, in each way of typing it; and mistakes."""
    for command, needed in NEEDED.items():
        head = command.split()
        yield from ([*head, *more] for more in _shapes(needed))
        for name, hint, option in options_of(command):
            for words in _ways(name, list(values_of(hint)), hint):
                without = _without(needed, option)
                yield [*head, *without, *words]
            if needed and not needed[0].startswith("-"):
                yield [*head, *_example(name, hint), *_without(needed, option)]
                yield [*head, needed[0], *_example(name, hint), *_without(needed[1:], option)]


def options_of(command: str) -> Iterator[tuple[str, Any, str]]:
    """Field, type and option of everything that a command takes by name."""
    name, _, action = command.partition(" ")
    module = importlib.import_module(f"mri_hpc.{name}")
    kinds = {"": getattr(module, "Options", None) or getattr(module, "TrainOptions", None)}
    # An action's options are in the module of its name, if not in that of the command.
    for word in (action.replace("-", "_"),):
        place = importlib.import_module(f"mri_hpc.store_actions.{word}") if name == "store" else module
        kinds[action] = kinds.get(action) or getattr(place, word.title().replace("_", ""))
    yield from _fields(kinds[action])


def _fields(kind: type) -> Iterator[tuple[str, Any, str]]:
    plain = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = plain[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _fields(hint)
        else:
            name = "class" if (kind.__name__, field.name) == ("Sheet", "label") else field.name
            yield name, hint, "--" + name.replace("_", "-")


def values_of(hint: Any) -> Iterator[str]:
    """What may be typed for a field of this type, and what may not."""
    if get_origin(hint) is Literal:
        yield from (*get_args(hint), get_args(hint)[0].upper(), get_args(hint)[0][:-1], "", "None")
    elif get_args(hint):
        for part in get_args(hint):
            yield from values_of(part)
    else:
        yield from VALUES.get(hint, ())


def _ways(name: str, values: Sequence[str], hint: Any) -> Iterator[list[str]]:
    dashed, underlined = "--" + name.replace("_", "-"), "--" + name
    good = values[0]
    if hint is bool:
        negative = "--no-" + dashed[2:]
        yield from (
            [dashed], [negative], [underlined], ["--no_" + name], ["--no-" + name], [dashed, dashed],
            [dashed, negative], [negative, dashed], ["-" + name[0]],
        )  # fmt: skip
        yield from ([f"{one}={value}"] for value in values for one in (dashed, negative))
        yield [dashed, good]
        return
    for value in dict.fromkeys(values):
        yield [dashed, value]
        yield [f"{dashed}={value}"]
    yield [underlined, good]
    yield [f"{underlined}={good}"]
    yield [dashed]
    yield [dashed, "--json"]
    yield [dashed, good, dashed, values[1]]
    yield [dashed, good, "stray"]
    yield [dashed[:-1], good]
    yield ["-" + name[0], good]
    yield [dashed[1:], good]
    yield [dashed.upper(), good]
    yield ["--no-" + dashed[2:]]
    yield [dashed, good, "x=y", dashed, "c=d", "--json"]


def _example(name: str, hint: Any) -> list[str]:
    dashed = "--" + name.replace("_", "-")
    return [dashed] if hint is bool else [dashed, next(iter(values_of(hint)))]


def _shapes(needed: Sequence[str]) -> Iterator[list[str]]:
    """What needs no option: too little, too much, in other orders."""
    yield list(needed)
    yield from (list(needed[:count]) for count in range(len(needed)))
    yield [*needed, "more"]
    yield [*needed, "more", "and more"]
    yield ["--", *needed]
    yield [*needed, "--"]
    yield [*needed, "--", "--json"]
    yield [*needed, "--help"]
    yield [*needed, "-h"]
    yield [*needed, "--jsn"]
    yield [*needed, "--jsn", "3", "--wach"]
    yield [*needed, "--entirely-unknown=4"]
    yield [*needed, "--json", "--json"]
    yield [*needed, "-1"]
    yield [*needed, ""]


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words, but for an option and its value."""
    if option not in words:
        return list(words)
    place = words.index(option)
    return [*words[:place], *words[place + 2 :]]


def of_saved_runs() -> Iterable[list[str]]:
    """Launches whose defaults are the settings of a run: see ``parsed.make_runs``."""
    for words in (
        [], ["--epochs", "40"], ["--augment"], ["--no-augment"], ["--model", "resnet18"], ["--slurm", "a=b"],
        ["--slurm"], ["--partition", "short"], ["--wait"], ["--lr", "many"], ["--lrr", "1"], ["--nodes"],
        ["--json", "--dry-run"], ["--batch_size=auto"], ["--cancel"], ["--seed", "-1"],
    ):  # fmt: skip
        for start in (
            ["--run", "runs/saved"], ["--run=runs/saved"], ["--continue-from", "runs/finished"],
            ["--continue_from=runs/finished", "--run", "runs/new"], ["--continue-from", "runs/saved"],
            ["--run", "runs/saved", "--run", "runs/new"],
        ):  # fmt: skip
            yield ["launch", *start, *words]
            yield ["launch", *words, *start]
