"""One word a thing: docstrings say what code does, and retired words stay away. See docs/architecture.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUESTION = re.compile(r"(What|Whether|Where|Who|Whose|How|Which|When|Why)\b")
RETIRED = re.compile(r"withdr[ae]w\w*|mend(s|ed|ing)?|broken|correct(s|ed|ions?)?|nobody|somebody", re.I)
# In names alone: text may say that a signal told a process to stop.
RETIRED_NOUNS = re.compile(r"said|told", re.I)
# Where such a word is the right one: the word as it stands, and the line that it stands in.
ALLOWED: frozenset[tuple[str, str]] = frozenset()


def test_docstrings_say_what_code_does_instead_of_asking():
    found = [
        f"{path}:{line}: {text.splitlines()[0]}" for path, line, text in docstrings() if QUESTION.match(text)
    ]
    assert found == []


def test_retired_words_are_in_no_docstring():
    found = [
        f"{path}:{line}: {word}"
        for path, line, text in docstrings()
        for row in text.splitlines()
        for word in re.findall(r"\w+", row)
        if RETIRED.fullmatch(word) and (word, row.strip()) not in ALLOWED
    ]
    assert found == []


def test_retired_words_are_in_no_name():
    found = [
        f"{path}:{line}: {name}"
        for path, line, name in names()
        for word in words_of(name)
        if RETIRED.fullmatch(word) or RETIRED_NOUNS.fullmatch(word)
    ]
    assert found == []


def test_names_are_taken_apart_into_words():
    assert words_of("_is_withdrawn") == ["is", "withdrawn"]
    assert words_of("BrokenPipe") == ["Broken", "Pipe"]
    assert words_of("USER_CAN_MEND") == ["USER", "CAN", "MEND"]


def words_of(name: str) -> list[str]:
    """Take a name apart: snake_case, CamelCase or CAPITALS."""
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)


def docstrings() -> Iterator[tuple[Path, int, str]]:
    """Find docstrings of modules, classes, functions and fields: (file, line, text)."""
    for path, tree in modules():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield path, node.lineno, node.value.value.strip()


def names() -> Iterator[tuple[Path, int, str]]:
    """Find names of modules, and those that are given in them: (file, line, name)."""
    for path, tree in modules():
        yield path, 1, path.stem
        for node in ast.walk(tree):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    yield path, node.lineno, name
                case ast.arg(arg=name):
                    yield path, node.lineno, name
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    yield path, node.lineno, name


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Parse the modules of mri_hpc."""
    for path in sorted((ROOT / "mri_hpc").rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))
