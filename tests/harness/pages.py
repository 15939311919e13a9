"""Pages as a browser and a screen reader take them."""

from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "br", "input", "link", "img", "hr"}
HEADINGS = ("h1", "h2", "h3", "h4")
ENDS = ("td", "th", "dt", "dd", "p", "h1", "h2", "h3", "title", "caption", "figcaption", "desc", "li")
"""Elements between whose words stands a space."""


class Page(HTMLParser):
    """Checks that elements close in order, and keeps what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: list[tuple[str, ...]] = []
        """Of each element, those around it."""
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it, and open it."""
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.inside.append(tuple(self.open))
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened last."""
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"
        if tag in ENDS:
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        """Keep the words that are shown."""
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        """All that is shown, with one space between words."""
        return " ".join("".join(self.text).split())


def hard_to_hear(text: str) -> list[str]:
    """List what a screen reader would stumble over: headings, landmarks, tables, pictures, references."""
    page = Page(text)
    return [
        *([] if page.all("html")[0].get("lang") else ["no language"]),
        *_of_landmarks(page),
        *_of_headings(page),
        *_of_tables(page),
        *_of_pictures(page),
        *(f"id {name} is there twice" for name in set(page.ids) if page.ids.count(name) > 1),
    ]


def _of_landmarks(page: Page) -> list[str]:
    wrong = [
        f"{len(page.all(tag))} times {tag}" for tag in ("main", "header", "footer") if len(page.all(tag)) != 1
    ]
    for tag, attributes in page.elements:
        if attributes.get("role") == "region" and not attributes.get("aria-label"):
            wrong.append(f"{tag} is a region without a name")
        for name in ("aria-labelledby", "aria-describedby"):
            wrong += [
                f"{name} {i} leads nowhere" for i in attributes.get(name, "").split() if i not in page.ids
            ]
    return wrong


def _of_headings(page: Page) -> list[str]:
    levels = [int(tag[1]) for tag, _attributes in page.elements if tag in HEADINGS]
    wrong = [] if levels[:1] == [1] and levels.count(1) == 1 else [f"headings begin {levels[:3]}"]
    return wrong + [f"h{b} follows h{a}" for a, b in pairwise(levels) if b > a + 1]


def _of_tables(page: Page) -> list[str]:
    wrong = ["a header cell says not of what"] * sum(not cell.get("scope") for cell in page.all("th"))
    names = [tag for tag, _attributes in page.elements]
    starts = [at for at, name in enumerate(names) if name == "table"]
    for at in starts:
        if names[at + 1] != "caption":
            wrong.append(f"table {starts.index(at)} has no caption")
        if "thead" not in names[at : at + 3]:
            wrong.append(f"table {starts.index(at)} has no head")
    return wrong


def _of_pictures(page: Page) -> list[str]:
    wrong = [f"no words for {image.get('src', '')[:30]}" for image in page.all("img") if not image.get("alt")]
    names = [tag for tag, _attributes in page.elements]
    for at, (tag, attributes) in enumerate(page.elements):
        if tag != "svg" or attributes.get("aria-hidden"):
            continue
        if attributes.get("role") != "img" or not attributes.get("aria-labelledby"):
            wrong.append("a drawing is no picture to those who hear it")
        if names[at + 1 : at + 3] != ["title", "desc"]:
            wrong.append("a drawing has no title, or no description")
    return wrong
