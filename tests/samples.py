"""Calls, keys and events as tests need them: the fewest fields, all else as a default."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from gateway.events import Event
from gateway.ports import Batch, Events
from gateway.records import ApiKey, Call, Detail, Dialect
from gateway.request import ChatRequest

CALL_ID = "0198c0de-0000-7000-8000-000000000001"
CREATED = 1764000000


def a_key(**fields: object) -> ApiKey:
    given: dict[str, object] = {
        "id": "key_1",
        "email": "ada@example.com",
        "name": "Laptop",
        "tier": "default",
        "masked": "sk-Ab3…9xQ2",
        "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return ApiKey(**(given | fields))  # type: ignore[arg-type]  # a test names the fields


def a_request(**fields: object) -> ChatRequest:
    given: dict[str, object] = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "size": 40,
    }
    return ChatRequest(**(given | fields))  # type: ignore[arg-type]  # a test names the fields


def a_call(
    request: ChatRequest | None = None,
    *,
    dialect: Dialect = Dialect.NAMED,
    detail: Detail = Detail.RESULTS,
    key: ApiKey | None = None,
) -> Call:
    return Call(
        id=CALL_ID,
        key=key or a_key(),
        request=request or a_request(),
        created=CREATED,
        dialect=dialect,
        detail=detail,
    )


async def stream_of(batches: Sequence[Batch]) -> AsyncGenerator[Batch, None]:
    for batch in batches:
        yield batch


async def drain(events: Events) -> list[Event]:
    """All events, however they were batched."""
    return [event async for batch in events for event in batch]
