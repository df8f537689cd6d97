"""Text that is not ours, as a terminal may have it."""

import unicodedata

STATUS_COLOURS = {"ok": "green", "open": "cyan", "cancelled": "yellow", "interrupted": "yellow"}
"""Of a usage row; any other status is red."""

_JOINERS = "\u200c\u200d"  # Persian and many emoji are written with them


def plain(text: str) -> str:
    """Without anything that moves a cursor, changes colours or turns the direction of what follows:
    that is shown as U+FFFD. Lines and tabs stay, and a carriage return is left out."""
    if text.isprintable():
        return text
    return "".join([_plain(char) for char in text])


def _plain(char: str) -> str:
    if char in "\n\t" or char in _JOINERS:
        return char
    match unicodedata.category(char):
        case "Zl" | "Zp":
            return "\n"
        case "Cc" | "Cf" | "Cs":
            return "" if char == "\r" else "\ufffd"
        case _:
            return char
