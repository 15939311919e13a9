"""The README and the pages in docs, as their tests see them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted([README, *(ROOT / "docs").rglob("*.md")])

FENCE = "```"
REASON = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """Of its first line of text, from 1."""
    language: str
    text: str
    reason: str
    """Why it is not run; empty where it does not say."""

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """A page as it is named from the root."""
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """All of a page."""
    return page.read_text(encoding="utf-8")


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    lines, blocks, begin = text_of(page).splitlines(), list[Block](), 0
    for number, line in enumerate(lines, 1):
        if not line.startswith(FENCE):
            continue
        if not begin:
            begin = number
            continue
        opening, before = lines[begin - 1], lines[begin - 2]
        reason = REASON.fullmatch(before.strip())
        blocks.append(
            Block(
                page=page,
                line=begin + 1,
                language=opening.removeprefix(FENCE),
                text="\n".join(lines[begin : number - 1]) + "\n",
                reason=reason[1] if reason else "",
            )
        )
        begin = 0
    assert not begin, f"{name_of(page)}:{begin}: a block without an end"
    return blocks


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    parts = re.split(rf"^{FENCE}.*$", text_of(page), flags=re.MULTILINE)
    return "".join(parts[::2])


def inline_code_of(page: Path) -> list[str]:
    """What stands between single backticks in the prose of a page; a line end there is a space."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose_of(page))]


def section_of(page: Path, title: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    level = re.search(rf"^(#+) {re.escape(title)}$", text_of(page), re.MULTILINE)
    assert level, f"{name_of(page)} has no section {title!r}"
    below = text_of(page)[level.end() :]
    return re.split(rf"^#{{1,{len(level[1])}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


def anchors_of(page: Path) -> set[str]:
    """The anchors that headings of a page make, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
