"""What the gateway's own tools said in turns that went on at the client.

A model may call tools of both kinds at once. Ours run here and stay hidden; the client gets only its
own calls, runs them and sends its history back, which lacks what it never saw. The model must see
that again, or its provider refuses the history. So a paused turn is kept for a while, by the ids of
the client's calls, and put back in place when one of them returns. Kept in memory, within bounds: a
turn that was dropped or lost with the process costs the hidden results, not the conversation.

Some formats show a client our calls as well, and it sends back what it was shown. That may be less than
the model saw, so the turn that was kept stands for it. A client that sends back the thinking itself
knows where in its turn it stood: nothing is put in its place unless there are results to add.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from gateway.request import NATIVE, Message
from gateway.sse import dump


@dataclass(frozen=True, slots=True)
class _Turn:
    rows: bytes
    """The rows that stand for the assistant's one row in the client's history, as JSON."""
    ids: tuple[str, ...]
    hidden: frozenset[str]
    """The calls whose results are among the rows."""
    expires: float

    def adds_to(self, message: Message) -> bool:
        return bool(self.hidden) or not ("reasoning_details" in message or NATIVE in message)


class Turns:
    """Paused turns of all callers. An owner (a key's id) never sees another's."""

    def __init__(
        self,
        *,
        max_bytes: int = 64 << 20,
        lifetime: float = 6 * 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._lifetime = lifetime
        self._clock = clock
        self._turns: OrderedDict[tuple[str, str], _Turn] = OrderedDict()
        self._bytes = 0

    def keep(self, owner: str, ids: Sequence[str], rows: Sequence[Message]) -> None:
        """`rows`: all rounds of the turn as the model saw them, up to the hidden results."""
        hidden = frozenset(str(row["tool_call_id"]) for row in rows if row["role"] == "tool")
        turn = _Turn(dump(rows), tuple(ids), hidden, self._clock() + self._lifetime)
        if len(turn.rows) > self._max_bytes:
            return
        for call_id in ids:
            self._drop((owner, call_id))
            self._turns[owner, call_id] = turn
            self._bytes += len(turn.rows)
        while self._bytes > self._max_bytes or self._stale():
            self._drop(next(iter(self._turns)))

    def restore(self, owner: str, messages: Sequence[Message]) -> Sequence[Message]:
        """The history as the model knows it; the same object when nothing was hidden from it."""
        if not self._turns:
            return messages
        restored: list[Message] = []
        changed = False
        hidden: frozenset[str] = frozenset()
        for message in messages:
            if message.get("role") != "tool":
                hidden = frozenset()
            elif message.get("tool_call_id") in hidden:
                continue
            turn = self._find(owner, message)
            if turn is None or not turn.adds_to(message):
                restored.append(message)
                continue
            hidden = turn.hidden
            while restored and _tells(restored[-1], hidden):
                restored.pop()
            restored.extend(orjson.loads(turn.rows))
            changed = True
        return restored if changed else messages

    def _find(self, owner: str, message: Message) -> _Turn | None:
        ids = _calls(message)
        for call_id in ids:
            turn = self._turns.get((owner, call_id))
            if turn is None or turn.expires < self._clock():
                continue
            if ids - turn.hidden == set(turn.ids):
                return turn
        return None

    def _stale(self) -> bool:
        return bool(self._turns) and next(iter(self._turns.values())).expires < self._clock()

    def _drop(self, name: tuple[str, str]) -> None:
        turn = self._turns.pop(name, None)
        if turn is not None:
            self._bytes -= len(turn.rows)


def _calls(message: Message) -> set[str]:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not isinstance(calls, list):
        return set()
    return {str(call.get("id")) for call in calls if isinstance(call, dict)}


def _tells(message: Message, hidden: frozenset[str]) -> bool:
    """Whether it is of calls in a turn that stands for them."""
    if message.get("role") == "tool":
        return message.get("tool_call_id") in hidden
    calls = _calls(message)
    return bool(calls) and calls <= hidden
