"""How much of a long conversation a model is shown: its last messages, cut where a provider bears it.

Providers refuse a result without its call, and a call without its results. So a history is cut between
units only: a message, or a message with calls together with all of their results.
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile

from gateway.request import Message

NO_RESULT = "No result was recorded."


def close_calls(messages: Sequence[Message], *, ended: bool = False) -> list[Message]:
    """The history with a result for each call and a call for each result. Calls that wait at its very
    end stay open, unless it has `ended` there."""
    return [message for unit in _units(messages, ended=ended) for message in unit]


def cut(messages: Sequence[Message], most: int) -> list[Message]:
    """The last `most` messages or fewer: whole units, the first of them from the user. Instructions at
    the start stay and do not count, and so does the turn that is on, however long it is."""
    pinned = list(takewhile(lambda message: message.get("role") in _INSTRUCTIONS, messages))
    units = list(_units(messages[len(pinned) :]))
    asked = [index for index, unit in enumerate(units) if _is_users(unit)]
    start = asked[-1] if asked else 0
    left = most - sum(map(len, units[start:]))
    first = start
    for index in range(start - 1, -1, -1):
        left -= len(units[index])
        if left < 0:
            break
        if _is_users(units[index]):
            first = index
    return [*pinned, *(message for unit in units[first:] for message in unit)]


_INSTRUCTIONS = ("system", "developer")


def _is_users(unit: Sequence[Message]) -> bool:
    return unit[0].get("role") == "user"


def _units(messages: Sequence[Message], *, ended: bool = False) -> Iterator[list[Message]]:
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if message.get("role") == "tool":
            continue  # its call is gone
        ids = _call_ids(message)
        if not ids:
            yield [message]
            continue
        results: dict[object, Message] = {}
        while index < len(messages) and messages[index].get("role") == "tool":
            result = messages[index]
            if result.get("tool_call_id") in ids:
                results[result.get("tool_call_id")] = result
            index += 1
        waits = index == len(messages) and not results and not ended
        yield [message] if waits else [message, *(_result(results, call) for call in ids)]


def _call_ids(message: Message) -> list[object]:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not isinstance(calls, list):
        return []
    return [call.get("id") for call in calls if isinstance(call, dict)]


def _result(results: dict[object, Message], call_id: object) -> Message:
    return results.get(call_id) or {
        "role": "tool",
        "tool_call_id": call_id,
        "content": NO_RESULT,
    }
