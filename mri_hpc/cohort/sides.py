"""Classes that speak of a side of the body: for these, an image and its mirror image are two things."""

import re
from collections.abc import Sequence

LEFT = {
    "left",
    "links",
    "linke",
    "linker",
    "gauche",
    "izquierda",
    "izquierdo",
    "sinistra",
    "sinistro",
    "esquerda",
    "esquerdo",
}
RIGHT = {
    "right",
    "rechts",
    "rechte",
    "rechter",
    "droite",
    "droit",
    "derecha",
    "derecho",
    "destra",
    "destro",
    "direita",
    "direito",
}
SHORT = {"l": "r", "lh": "rh", "lt": "rt", "li": "re", "g": "d", "sin": "dex", "izq": "der"}
"""Shorter words of left, and those of right: they speak of a side only where both stand for one another."""
WORDS = re.compile(r"[^\W_]+")
AT_CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def sided_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes whose name speaks of a side: left or right, also in other languages; L beside R.

    One letter speaks of a side only where another class has the other letter in its place.
    """
    words = {name: tuple(_words(name)) for name in classes}
    known = set(words.values())
    return tuple(name for name in classes if _speaks(words[name], known))


def _words(name: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(AT_CAPITALS.sub(" ", name))]


def _speaks(words: tuple[str, ...], known: set[tuple[str, ...]]) -> bool:
    if {*words} & (LEFT | RIGHT):
        return True
    others = {**SHORT, **{right: left for left, right in SHORT.items()}}
    swapped = [
        (*words[:place], others[word], *words[place + 1 :])
        for place, word in enumerate(words)
        if word in others
    ]
    return any(one in known for one in swapped)
