"""Text as it can be spoken: without the marks of Markdown, addresses and blocks of code.

Works on a stream: what it gives out does not depend on how the text was cut, and it holds back only what
the next characters decide on, which is a few characters in prose.
"""

import re
from collections.abc import Callable

_HEAD = frozenset("#-*+_=>|:~`• \t")
"""What a line may begin with that is not its text."""
_PREFIX = re.compile(r"#{1,6}[ \t]+|>[ \t]*|[-*+•][ \t]+|[ \t]+")
_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})")
_MARKS = frozenset("*_`~")
_ADDRESSES = ("https://", "http://", "www.")
_BEGINNINGS = frozenset(
    address[:end] for address in _ADDRESSES for end in range(1, len(address) + 1)
)
_TRAILING = frozenset(".,;:!?'")
"""What ends a sentence around an address, unless the address goes on after it."""
_NOTE = re.compile(r"\^?\d{1,3}|[ xX]")
"""In brackets: a footnote, or a box to tick."""
_LONGEST_HEAD = 400
_LONGEST_NOTE = 4

_State = Callable[[str], None]


class PlainSpeech:
    """One text. An automaton that is fed characters; each state is a method that takes the next one."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._state: _State = self._begin_line
        self._held = ""
        """Characters that wait for the next ones, in the states that hold some."""
        self._before = ""
        """The last character of the source that was read as text."""
        self._last = "\n"
        """The last character that was given out."""
        self._row = False
        """In a line of a table."""
        self._gap = False
        """A cell of a table ended, and its next one has not begun."""
        self._closing = ""
        """What ends a block of code, a link or an address in brackets."""
        self._depth = 0
        self._holding = (
            self._address,
            self._maybe_address,
            self._note,
            self._escape,
            self._bang,
        )
        """The states whose characters are text after all, if nothing follows."""

    def feed(self, text: str) -> str:
        for char in text:
            self._state(char)
        return self._take()

    def close(self) -> str:
        """What is left, at the end."""
        if self._state == self._begin_line:
            self._decide_line("")
        elif self._state == self._mark:
            self._end_mark("")
        elif self._state in self._holding:
            self._write(self._held)
        self._held = ""
        self._state = self._begin_line
        return self._take()

    def _take(self) -> str:
        text = "".join(self._out)
        self._out.clear()
        return text

    def _write(self, text: str) -> None:
        """Gives out plain text. Gaps that were left by what is gone are closed."""
        for char in text:
            if char in " \t":
                if self._row:
                    self._gap = self._gap or self._last not in " \n"
                elif self._last not in " \n":
                    self._out.append(" ")
                    self._last = " "
                continue
            if char == "\n":
                if self._last != "\n":
                    self._out.append("\n")
            else:
                if self._row and self._gap:
                    self._out.append(" ")
                self._out.append(char)
            self._gap = False
            self._last = char

    # The beginning of a line

    def _begin_line(self, char: str) -> None:
        if char in _HEAD and len(self._held) < _LONGEST_HEAD:
            self._held += char
        else:
            self._decide_line(char)

    def _decide_line(self, char: str) -> None:
        """`char` is the first one that may be text; nothing at the end."""
        head, self._held = self._held, ""
        self._state = self._read
        self._before = ""
        if fence := _FENCE.match(head):
            self._closing = fence[1]
            self._state = self._code if char != "\n" else self._code_line
            return
        if char in ("", "\n"):
            # A rule, the line below a table's head, or nothing.
            self._state = self._begin_line
            self._write(char)
            return
        while True:
            if prefix := _PREFIX.match(head):
                head = head[prefix.end() :]
            elif head.startswith("|"):
                self._row, head = True, head[1:]
            else:
                break
        for each in (*head, char):
            self._state(each)

    # Blocks of code, which are left out whole

    def _code(self, char: str) -> None:
        if char == "\n":
            self._held = ""
            self._state = self._code_line

    def _code_line(self, char: str) -> None:
        """At the beginning of a line in a block."""
        if char == self._closing[0] or (not self._held.strip() and char in " \t"):
            self._held += char
            return
        fence = self._held.strip()
        if len(fence) >= len(self._closing) and char in " \t":
            return
        self._held = ""
        if char != "\n":
            self._state = self._code
        elif len(fence) >= len(self._closing):
            self._state = self._begin_line

    # Text

    def _read(self, char: str) -> None:
        if char == "\n":
            self._end_line()
            return
        if char in _MARKS:
            self._held, self._state = char, self._mark
            return
        if not self._before.isalnum() and char.lower() in _BEGINNINGS:
            self._held, self._state = char, self._maybe_address
            return
        match char:
            case "[":
                self._held, self._state = char, self._note
            case "]":
                self._state = self._after_bracket
            case "!":
                self._held, self._state = char, self._bang
            case "(" | "<":
                self._held, self._state = char, self._maybe_address
            case "\\":
                self._held, self._state = char, self._escape
            case "|" if self._row:
                self._end_cell()
            case _:
                self._write(char)
        self._before = char

    def _end_line(self) -> None:
        self._row = self._gap = False
        self._write("\n")
        self._state = self._begin_line

    def _end_cell(self) -> None:
        self._gap = False
        self._state = self._next_cell

    def _next_cell(self, char: str) -> None:
        """After a bar: another cell follows, or the line ends."""
        if char in " \t|":
            return
        self._state = self._read
        if char != "\n" and self._last not in "\n,":
            self._write(",")
            self._gap = True
        self._before = " "
        self._read(char)

    def _mark(self, char: str) -> None:
        if char == self._held[0]:
            self._held += char
            return
        self._end_mark(char)
        self._state(char)

    def _end_mark(self, after: str) -> None:
        """Emphasis goes; a sign that stands for itself stays."""
        run, self._held = self._held, ""
        self._state = self._read
        before = self._before
        alone = before in ("", " ", "\t") and after in ("", " ", "\t", "\n")
        match run[0]:
            case "`":
                stays = False
            case "~":
                stays = len(run) == 1
            case "_":
                stays = alone or (before.isalnum() and after.isalnum())
            case _:
                stays = alone or (before.isdigit() and after.isdigit())
        if stays:
            self._write(run)
            self._before = run[-1]

    def _escape(self, char: str) -> None:
        self._held, self._state = "", self._read
        if char in "\\`*_{}[]<>()#+-.!~|":
            self._write(char)
            self._before = char
        else:
            self._write("\\")
            self._before = "\\"
            self._read(char)

    # Links, footnotes, addresses

    def _bang(self, char: str) -> None:
        """A picture's words are read like a link's."""
        self._held, self._state = "", self._read
        if char != "[":
            self._write("!")
        self._read(char)

    def _note(self, char: str) -> None:
        """After a bracket, which is not spoken; nor are footnotes."""
        inside = self._held[1:]
        if char == "]" and _NOTE.fullmatch(inside):
            self._held, self._state = "", self._after_bracket
        elif char in "^ xX0123456789" and len(inside) < _LONGEST_NOTE:
            self._held += char
        else:
            self._held, self._state = "", self._read
            for each in (*inside, char):
                self._state(each)

    def _after_bracket(self, char: str) -> None:
        self._state = self._read
        if char == "(":
            self._depth, self._state = 1, self._target
        else:
            self._read(char)

    def _target(self, char: str) -> None:
        """Where a link leads: left out."""
        if char == "\n":
            self._end_line()
        elif char == "(":
            self._depth += 1
        elif char == ")":
            self._depth -= 1
            if not self._depth:
                self._before, self._state = ")", self._read

    def _maybe_address(self, char: str) -> None:
        opened = self._held[:1] in ("(", "<")
        seen = (self._held[1:] if opened else self._held) + char
        if seen.lower() in _ADDRESSES:
            self._closing = {"(": ")", "<": ">"}[self._held[0]] if opened else ""
            self._held, self._depth, self._state = "", 0, self._address
        elif seen.lower() in _BEGINNINGS:
            self._held += char
        else:
            held, self._held = self._held, ""
            self._state = self._read
            self._write(held)
            self._before = held[-1]
            self._read(char)

    def _address(self, char: str) -> None:
        """Left out up to where it ends; `_held` is what may be the sentence's."""
        if char == "(":
            self._depth += 1
        elif char == ")" and self._depth:
            self._depth -= 1
        elif char == self._closing:
            self._write(self._held)
            self._held, self._before, self._state = "", char, self._read
            return
        elif char.isspace() or char in '<>"|])*`':
            self._write(self._held)
            self._before, self._held = self._held[-1:] or "x", ""
            self._state = self._read
            self._read(char)
            return
        self._held = self._held + char if char in _TRAILING else ""
