"""What the gateway's own tools said in turns that went on at the client.

A model may call tools of both kinds at once. Ours run here and stay hidden; the client gets only its
own calls, runs them and sends its history back, which lacks what it never saw. The model must see
that again, or its provider refuses the history. So a paused turn is kept for a while, by the ids of
the client's calls, and put back in place when one of them returns. Kept in memory, within bounds: a
turn that was dropped or lost with the process costs the hidden results, not the conversation.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from gateway.request import Message
from gateway.sse import dump


@dataclass(frozen=True, slots=True)
class _Turn:
    rows: bytes
    """The rows that stand for the assistant's one row in the client's history, as JSON."""
    ids: tuple[str, ...]
    expires: float


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
        turn = _Turn(dump(rows), tuple(ids), self._clock() + self._lifetime)
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
        for message in messages:
            turn = self._find(owner, message)
            if turn is None:
                restored.append(message)
            else:
                restored.extend(orjson.loads(turn.rows))
                changed = True
        return restored if changed else messages

    def _find(self, owner: str, message: Message) -> _Turn | None:
        calls = message.get("tool_calls")
        if message.get("role") != "assistant" or not isinstance(calls, list) or not calls:
            return None
        ids = {call.get("id") for call in calls if isinstance(call, dict)}
        for call_id in ids:
            turn = self._turns.get((owner, call_id)) if isinstance(call_id, str) else None
            if turn is not None and ids == set(turn.ids) and turn.expires >= self._clock():
                return turn
        return None

    def _stale(self) -> bool:
        return bool(self._turns) and next(iter(self._turns.values())).expires < self._clock()

    def _drop(self, name: tuple[str, str]) -> None:
        turn = self._turns.pop(name, None)
        if turn is not None:
            self._bytes -= len(turn.rows)
