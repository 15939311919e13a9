"""What the pages point to is there: other pages, files, names in the code, rooms, settings, messages."""

import ast
import re
import tomllib
from functools import cache

import pytest

from tests.docs.pages import (
    PAGES,
    README,
    ROOT,
    anchors_of,
    blocks_of,
    inline_code_of,
    name_of,
    prose_of,
    section_of,
    text_of,
)
from tests.docs.settings_table import TABLES, table

ARCHITECTURE = ROOT / "docs" / "architecture.md"
SETTINGS = ROOT / "docs" / "settings.md"
PROMISES = ROOT / "docs" / "promises.md"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
MOST_README_LINES = 250
# By which a supervisor speaks to its ranks: no user sets it.
OWN_VARIABLES = {"MRI_MAILS", "MRI_ADDRESSES", "MRI_NODES", "MRI_SAVE_GRACE_S", "MRI_SHELL_HAS_SCONTROL"}
FLOWS = ("An image", "A signal", "A setting", "A retraction", "An error")
FOLDERS = "mri_hpc|tools|hpc|tests|docs|examples|findings"
PATH = re.compile(rf"(?:{FOLDERS})(?:/[\w.-]+)*/?|\.ci/run|pyproject\.toml|setup\.cfg")
NAMED = re.compile(rf"((?:{FOLDERS})/[\w./-]+\.py):([\w.]+)")
MESSAGES = re.findall(r"^\*\*`(.+)`\*\*$", text_of(TROUBLESHOOTING), re.MULTILINE)
FLOW_NAMES = [found for flow in FLOWS for found in NAMED.findall(section_of(ARCHITECTURE, flow))]


def links_of(page):
    """Relative links of a page, and those that only name a heading."""
    found = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose_of(page))
    return [link for link in found if not link.startswith(("http:", "https:"))]


@cache
def names_in(path):
    """Every name that a module defines, with those of classes behind their class."""
    return set(defined(ast.parse((ROOT / path).read_text(encoding="utf-8"))))


def defined(body, prefix=""):
    for node in ast.iter_child_nodes(body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            yield from defined(node, f"{prefix}{node.name}.") if isinstance(node, ast.ClassDef) else ()
        elif isinstance(node, ast.Assign):
            yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id


@cache
def texts_of_the_code():
    """Every text in the code and its scripts, with … where a value is filled in."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "mri_hpc").rglob("*.py")]
    texts = (text_in(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.expr))
    return [text for text in texts if text]


def text_in(node):
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_in(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def is_said(message):
    return any(message.strip("… ") in text for text in texts_of_the_code())


def test_the_readme_can_be_read_in_one_sitting():
    assert len(text_of(README).splitlines()) <= MOST_README_LINES


def test_the_sections_of_the_readme_come_in_the_order_in_which_a_newcomer_needs_them():
    assert re.findall(r"^## (.+)$", text_of(README), re.MULTILINE) == [
        "What it does not do", "One minute on a laptop", "On your cluster", "What happens on preemption",
        "The promises", "Where to read on", "Developing",
    ]  # fmt: skip


def test_the_readme_begins_with_the_three_commands():
    first = blocks_of(README)[0].text.splitlines()
    assert [line.split("  #")[0].strip() for line in first] == [
        "sbatch hpc/slurm/preprocess_array.sh",
        "python -m mri_hpc.launch --nodes 2",
        "python -m mri_hpc.report runs/NAME",
    ]


def test_the_promises_of_the_readme_are_those_told_in_full_and_each_names_its_tests():
    short = re.findall(r"^\d+\. \*\*(.+?)[.:]?\*\*", section_of(README, "The promises"), re.MULTILINE)
    in_full = re.split(r"^\d+\. ", text_of(PROMISES), flags=re.MULTILINE)[1:]
    assert [re.match(r"\*\*(.+?)[.:]?\*\*", promise)[1] for promise in in_full] == short
    assert len(short) == 13
    assert [promise for promise in in_full if not re.search(r"Held by `tests/", promise)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=name_of)
def test_every_page_is_reached_from_the_readme(page):
    assert name_of(page) in links_of(README)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_a_page_names_exists(page):
    words = [word for code in inline_code_of(page) for word in code.split()]
    words += [word for block in blocks_of(page) if block.language == "bash" for word in block.text.split()]
    for word in words:
        if PATH.fullmatch(word):
            assert (ROOT / word).exists(), f"{name_of(page)} names {word}"
        elif "*" in word and re.match(rf"(?:{FOLDERS})/", word):
            assert any(ROOT.glob(word)), f"{name_of(page)} names {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_name_that_a_page_looks_for_in_a_file_is_defined_there(page):
    for path, name in NAMED.findall(prose_of(page)):
        assert name in names_in(path), f"{name_of(page)}: {path} defines no {name}"


@pytest.mark.parametrize("flow", FLOWS)
def test_every_step_of_a_flow_names_a_file(flow):
    steps = re.split(r"^\d+\. ", section_of(ARCHITECTURE, flow), flags=re.MULTILINE)[1:]
    assert len(steps) >= 4
    assert [step for step in steps if not re.search(rf"`(?:{FOLDERS})/[\w/]+\.\w+", step)] == []


def test_the_flows_name_functions():
    assert len(FLOW_NAMES) > 40


def checked_layers(name):
    """Layers that a contract of import-linter checks, from the top: a set of modules each."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["name"] == name)
    return [set(layer.split(" | ")) for layer in layers]


def test_the_layers_of_the_map_are_those_that_are_checked():
    rows = re.findall(r"^\| (`mri_hpc\..+?) \|", section_of(ARCHITECTURE, "Rooms and layers"), re.MULTILINE)
    shown = [set(re.findall(r"`(mri_hpc[\w.]*)`", row)) for row in rows]
    assert shown == checked_layers("Imports go down the layers only")


def test_the_floors_of_the_map_are_those_that_are_checked():
    section = section_of(ARCHITECTURE, "Rooms and layers")
    shown = re.findall(r"^\| `mri_hpc/storage/(\w+)(?:\.py)?` \|", section, re.MULTILINE)
    floors = checked_layers("A store has floors")[::-1]
    assert len(shown) == len(set(shown)) == sum(map(len, floors))
    for floor in floors:
        assert floor == {shown.pop(0) for _ in floor}


def glossary():
    """(word, words that are not used for it) of the glossary."""
    rows = re.findall(r"^\| (.+) \| (.+) \|(.*)\|$", section_of(ARCHITECTURE, "Glossary"), re.MULTILINE)
    return [
        (word, [other.strip() for other in others.split(",") if other.strip()])
        for word, _, others in rows[1:]
    ]


def test_the_glossary_has_one_line_a_word():
    words = [word for word, _ in glossary()]
    assert len(words) > 20
    assert len(words) == len(set(words))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_uses_a_word_that_the_glossary_has_given_up(page):
    text = text_of(page).replace(section_of(ARCHITECTURE, "Glossary"), "")
    # What the program says in its own words stays as it is said.
    text = re.sub(r"`[^`]+`", "", text)
    given_up = [other for _, others in glossary() for other in others]
    assert given_up
    for word in given_up:
        assert not re.search(rf"\b{word}(s|ed|n|al|als|ing)?\b", text, re.IGNORECASE), word


@pytest.mark.parametrize("title", TABLES)
def test_the_settings_are_those_of_the_code(title):
    wanted = table(TABLES[title])
    assert wanted in text_of(SETTINGS), f"python -m tests.docs.settings_table prints:\n{wanted}"


def test_every_variable_that_a_user_may_set_stands_among_the_settings():
    files = [*(ROOT / "mri_hpc").rglob("*.py"), *(ROOT / "hpc").rglob("*.sh"), ROOT / "hpc/slurm/site.env"]
    found = {name for file in files for name in re.findall(r"\bMRI_[A-Z_]+", text_of(file))}
    shown = set(re.findall(r"`(MRI_[A-Z_]+)`", section_of(SETTINGS, "Variables")))
    assert shown == found - OWN_VARIABLES


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_the_troubleshooting_is_one_that_the_code_says(message):
    assert is_said(message)


def test_every_reason_of_rejection_in_the_troubleshooting_is_one_that_the_code_says():
    cells = re.findall(
        r"^\| (`.+?) \|", section_of(TROUBLESHOOTING, "Images that were rejected"), re.MULTILINE
    )
    reasons = [reason for cell in cells for reason in re.findall(r"`([^`]+)`", cell)]
    assert len(reasons) > 12
    assert [reason for reason in reasons if not is_said(reason)] == []


def test_the_troubleshooting_has_messages():
    assert len(MESSAGES) >= 40
