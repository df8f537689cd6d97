"""A1 notation, there and back, with Google's habits of quoting."""

import re
from dataclasses import dataclass

_CELL = re.compile(r"(\$?)([A-Za-z]{1,3})(\$?)([1-9]\d{0,7})")
_END = re.compile(r"\$?([A-Za-z]{1,3})?\$?([1-9]\d{0,7})?")
_LOOKS_LIKE_A_CELL = re.compile(r"[A-Za-z]{1,3}0*[0-9]+", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Area:
    """A half-open rectangle, from 0; an end that is None is open."""

    top: int = 0
    left: int = 0
    bottom: int | None = None
    right: int | None = None

    def within(self, rows: int, columns: int) -> "Area":
        """The closed part of it that lies in a grid of this size."""
        return Area(
            self.top,
            self.left,
            rows if self.bottom is None else min(self.bottom, rows),
            columns if self.right is None else min(self.right, columns),
        )


def letters(column: int) -> str:
    """0 is A, 26 is AA."""
    text = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(65 + rest) + text
    return text


def number(text: str) -> int:
    """A is 0."""
    value = 0
    for letter in text.upper():
        value = value * 26 + ord(letter) - 64
    return value - 1


def quoted(title: str) -> str:
    """As answers spell a tab's title."""
    if _PLAIN.fullmatch(title) and not _LOOKS_LIKE_A_CELL.fullmatch(title):
        return title
    return "'" + title.replace("'", "''") + "'"


def split(text: str) -> tuple[str | None, str]:
    """(tab's title or None, what is left): `'a''b'!A1` is ("a'b", "A1"), `'a'` is ("a", "")."""
    if text.startswith("'"):
        match = re.fullmatch(r"'((?:[^']|'')*)'(?:!(.*))?", text, re.DOTALL)
        if match:
            return match[1].replace("''", "'"), match[2] or ""
    title, mark, rest = text.rpartition("!")
    return (title, rest) if mark else (None, text)


def area(text: str) -> Area | None:
    """`A1`, `A1:B2`, `A:B`, `A2:B`, `1:2`; None if it is none of these."""
    first, colon, last = text.partition(":")
    start = _END.fullmatch(first)
    if start is None or not (start[1] or start[2]):
        return None
    column = None if start[1] is None else number(start[1])
    row = None if start[2] is None else int(start[2]) - 1
    if not colon:
        if column is None or row is None:
            return None
        return Area(row, column, row + 1, column + 1)
    end = _END.fullmatch(last)
    if end is None or not (end[1] or end[2]):
        return None
    right = None if end[1] is None else number(end[1]) + 1
    bottom = None if end[2] is None else int(end[2])
    top, left = row or 0, column or 0
    if right is not None and right <= left:
        left, right = right - 1, left + 1
    if bottom is not None and bottom <= top:
        top, bottom = bottom - 1, top + 1
    return Area(top, left, bottom, right)


def spell(area: Area) -> str:
    """The closed area as A1 text."""
    if area.bottom is None or area.right is None:
        raise ValueError("an open area has no A1 text")
    start = f"{letters(area.left)}{area.top + 1}"
    end = f"{letters(area.right - 1)}{area.bottom}"
    return start if start == end else f"{start}:{end}"


def cell(text: str) -> tuple[int, int]:
    """(row, column) of `B2`."""
    match = _CELL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no cell")
    return int(match[4]) - 1, number(match[2])
