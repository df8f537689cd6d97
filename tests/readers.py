"""Readers of server-sent events as clients have them: by the letter of the specification, and naive."""

import codecs
from collections.abc import Iterable, Iterator

Frame = tuple[str, str]
"""Event and data."""


def strict(pieces: Iterable[bytes]) -> Iterator[Frame]:
    """As the specification says (https://html.spec.whatwg.org/multipage/server-sent-events.html), from
    bytes cut anywhere: CR, LF and CRLF end a line; a byte order mark at the start is dropped."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    event, data = "", [""][:0]
    line = ""
    first, after_cr = True, False
    for character in (c for piece in pieces for c in decoder.decode(piece)):
        if first:
            first = False
            if character == "\ufeff":
                continue
        if after_cr:
            after_cr = False
            if character == "\n":
                continue
        if character not in "\r\n":
            line += character
            continue
        after_cr = character == "\r"
        if not line:
            if data:
                yield event or "message", "\n".join(data)
            event, data = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                event = value
            elif field == "data":
                data.append(value)
        line = ""


def naive(pieces: Iterable[bytes]) -> Iterator[str]:
    """As a loop over `response.iter_lines()` in many programs: whatever Python takes for a line."""
    for line in b"".join(pieces).decode().splitlines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")
