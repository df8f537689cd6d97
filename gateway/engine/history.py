"""A conversation as it is kept: what was said, in which order, and where it was said otherwise.

Clients send the visible dialogue each time, and theirs is the truth. What is kept adds what they cannot
know: calls of the gateway's tools with their results, and the thinking that providers want back. So a
request is laid beside what is kept, and either goes on at its end, or branches off where a message was
edited or an answer is wanted anew, or it begins anew.

An entry whose parent is not there any more is where a long conversation was shortened.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple, TypeAlias, cast

from gateway.events import Json
from gateway.request import Message
from gateway.sse import dump

_INSTRUCTIONS = frozenset({"system", "developer"})
_OURS = frozenset({"reasoning_content", "reasoning_details"})

_Sight: TypeAlias = tuple[str, str]
"""Who said it, and what anybody can see of it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was said: one message of a client, or a whole answer with all of its rounds."""

    id: int
    parent: int | None
    rows: Sequence[Message]
    broken: bool = False
    """Whether it was broken off: a client may have seen less of it."""

    @property
    def sight(self) -> _Sight:
        """What a client sees of it: by this a message that comes back is recognised."""
        return _sight(self.rows)


@dataclass(slots=True)
class History:
    """All that was said in a conversation: a tree, whose branch that goes on ends at `head`."""

    entries: dict[int, Entry] = field(default_factory=dict)
    head: int | None = None

    def path(self, end: int | None = None) -> list[Entry]:
        """From the beginning to an entry, or to the head."""
        found: list[Entry] = []
        place = self.head if end is None else end
        while place is not None and place in self.entries:
            found.append(self.entries[place])
            place = self.entries[place].parent
        return found[::-1]

    def messages(self, end: int | None = None) -> list[Message]:
        return [row for entry in self.path(end) for row in entry.rows]

    def ends(self) -> list[int]:
        """The last entry of each branch, the one that goes on first."""
        parents = {entry.parent for entry in self.entries.values()}
        ends = [entry for entry in self.entries if entry not in parents]
        return sorted(ends, key=lambda end: (end != self.head, -end))

    def add(self, rows: Sequence[Message], *, broken: bool = False) -> None:
        """Said after the head."""
        number = next(reversed(self.entries), -1) + 1  # they are in order
        self.entries[number] = Entry(number, self.head, rows, broken)
        self.head = number

    def reconcile(self, messages: Sequence[Message]) -> list[Message]:
        """Take what a client sends, and tell the history as a model should see it.

        The client's instructions stand before it and are not kept.
        """
        said = [message for message in messages if message.get("role") not in _INSTRUCTIONS]
        known = _known(said)
        path = self.path()
        shortened = bool(path) and path[0].parent is not None
        sights = [_sight([row]) for row in said[:known]]
        kept = [_Kept(entry.sight, entry.broken) for entry in path]
        place = _find(sights, kept, shortened)
        if place is None:
            # Not all of it is known here. As far as it is, it is the same conversation.
            place = known = 0 if shortened else _common(sights, kept)
        self.head = path[place - 1].id if place else None
        # What was forgotten here, and the client still knows.
        before = said[: max(0, known - place)]
        return [
            *_instructions(messages),
            *before,
            *self.follow(said[known:]),
        ]

    def follow(self, messages: Sequence[Message]) -> list[Message]:
        """Take messages that a client says after all that is kept."""
        for message in messages:
            if message.get("role") not in _INSTRUCTIONS:
                self.add([message])
        return [*_instructions(messages), *self.messages()]

    def align(self, messages: Sequence[Message]) -> list[Message]:
        """Take what a voice platform sends: a record of what was spoken, by its own words. Only users'
        turns can be counted on: what tools found is put back after the turn that it was found in."""
        before = list(_turns(self.path()))
        said = [message for message in messages if message.get("role") not in _INSTRUCTIONS]
        self.entries, self.head = {}, None
        turn = 0
        for message in said:
            self.add([message])
            if message.get("role") == "user":
                if turn < len(before) and (found := _found(before[turn])):
                    self.add(found)
                turn += 1
        return [*_instructions(messages), *self.messages()]

    def shrink(self, most: int, largest: int) -> None:
        """Forget what is oldest beside the branch that goes on, until `most` entries are left and no more
        than `largest` bytes; then the beginning of that branch."""
        path = [entry.id for entry in reversed(self.path())]
        aside = sorted(self.entries.keys() - set(path), reverse=True)
        kept: dict[int, Entry] = {}
        for number in (*path, *aside):
            entry = self.entries[number]
            largest -= len(dump(entry.rows))
            if kept and (len(kept) == most or largest < 0):
                break
            kept[number] = entry
        self.entries = dict(sorted(kept.items()))

    def dump(self) -> Json:
        return {
            "head": self.head,
            "entries": [
                {
                    "id": entry.id,
                    "parent": entry.parent,
                    "rows": entry.rows,
                    "broken": entry.broken,
                }
                for entry in self.entries.values()
            ],
        }

    @classmethod
    def load(cls, data: Mapping[str, object]) -> "History":
        rows = cast(Sequence[Mapping[str, object]], data["entries"])
        entries = [
            Entry(
                cast(int, row["id"]),
                cast("int | None", row["parent"]),
                cast(Sequence[Message], row["rows"]),
                bool(row.get("broken")),
            )
            for row in rows
        ]
        return cls({entry.id: entry for entry in entries}, cast("int | None", data["head"]))


def visible(message: Message) -> Message:
    """A message as anybody may see it."""
    return {name: value for name, value in message.items() if name not in _OURS}


def _instructions(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if message.get("role") in _INSTRUCTIONS]


def _known(said: Sequence[Message]) -> int:
    """How many of them can be known here: all up to the last thing that the assistant said."""
    for index in range(len(said) - 1, -1, -1):
        if said[index].get("role") == "assistant":
            return index + 1
    return 0


class _Kept(NamedTuple):
    sight: _Sight
    broken: bool

    def shows(self, sight: _Sight) -> bool:
        """Whether a client may have been shown it so."""
        (role, text), (whose, whole) = sight, self.sight
        return role == whose and (
            text == whole or (self.broken and bool(text) and whole.startswith(text))
        )


def _find(sights: Sequence[_Sight], path: Sequence[_Kept], shortened: bool) -> int | None:
    """Where on the path a run of messages ends, the last such place; None where there is none. A client
    may have left out the beginning, but not anything in between; or it was forgotten here."""
    if not sights:
        return 0 if not path else None
    for end in range(len(path), 0, -1):
        length = min(end, len(sights))
        if (shortened or length == len(sights)) and all(
            path[end - back].shows(sights[-back]) for back in range(1, length + 1)
        ):
            return end
    return None


def _common(sights: Sequence[_Sight], path: Sequence[_Kept]) -> int:
    """How many messages are the same from the beginning on."""
    same = takewhile(lambda pair: pair[1].shows(pair[0]), zip(sights, path, strict=False))
    return sum(1 for _ in same)


def _sight(rows: Sequence[Message]) -> _Sight:
    """Role, and text without regard to spaces; for a result, the call that it is of."""
    role = str(rows[0].get("role"))
    if role == "tool":
        return role, str(rows[0].get("tool_call_id"))
    texts = [_text(row.get("content")) for row in rows if row.get("role") == role]
    return role, " ".join("".join(texts).split())


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(
        str(part.get("text") or part.get("refusal") or part.get("type"))
        for part in content
        if isinstance(part, Mapping)
    )


def _turns(path: Sequence[Entry]) -> Iterator[list[Message]]:
    """What was said after each of the user's messages, until the next one."""
    turn: list[Message] | None = None
    for entry in path:
        if entry.sight[0] == "user":
            if turn is not None:
                yield turn
            turn = []
        elif turn is not None:
            turn += entry.rows
    if turn is not None:
        yield turn


def _found(rows: Sequence[Message]) -> list[Message]:
    """Calls of the gateway's tools with their results, without the words around them."""
    answered = {row.get("tool_call_id") for row in rows if row.get("role") == "tool"}
    found: list[Message] = []
    for row in rows:
        calls = row.get("tool_calls")
        if row.get("role") == "tool":
            found.append(row)
        elif isinstance(calls, list) and all(call["id"] in answered for call in calls):
            found.append({**row, "content": None})
    called = {call["id"] for row in found for call in cast(list[Json], row.get("tool_calls") or [])}
    return [row for row in found if row.get("role") != "tool" or row.get("tool_call_id") in called]
