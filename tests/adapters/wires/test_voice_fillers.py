"""When silence is filled, and when it is not."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from adapters.wires.voice import fillers
from adapters.wires.voice.fillers import Fillers
from gateway.events import Complete, Delta, Event, StepStart
from gateway.ports import Batch
from gateway.records import Call
from tests.samples import a_call, a_request, drain

SOON = 0.05
LONG = 0.4


async def talk(*parts: float | Event) -> AsyncGenerator[Batch, None]:
    """Events, with silences in seconds between them."""
    for part in parts:
        if isinstance(part, float):
            await asyncio.sleep(part)
        else:
            yield (part,)


async def said(
    parts: Sequence[float | Event],
    *,
    made: Fillers | None = None,
    call: Call | None = None,
    flushes: bool = False,
) -> list[str]:
    interceptor = (made or Fillers(["One.", "Two."], SOON)).interceptor(flushes)
    heard = await drain(interceptor(call or a_call(), talk(*parts)))
    assert heard[-1] == Complete()
    return [event.text for event in heard if isinstance(event, Delta)]


async def test_a_silence_before_the_first_word_is_filled_once() -> None:
    assert await said([LONG, Delta("Hi."), Complete()]) == ["One. ", "Hi."]


async def test_a_short_silence_is_none() -> None:
    made = Fillers(["One."], 10.0)
    assert await said([0.01, Delta("Hi."), Complete()], made=made) == ["Hi."]


async def test_what_is_not_text_does_not_end_a_silence() -> None:
    parts = [StepStart(1, "m", "p"), LONG, Delta("Hi."), Complete()]
    assert await said(parts) == ["One. ", "Hi."]


@pytest.mark.parametrize("end", [".", "?", "…", ". ", ":\n", "。"])
async def test_a_silence_between_sentences_is_filled(end: str) -> None:
    parts = [Delta(f"Let me see{end}"), LONG, Delta("Nine."), Complete()]
    assert await said(parts) == [f"Let me see{end}", "One. ", "Nine."]


async def test_a_sentence_is_never_broken() -> None:
    parts = [Delta("It costs "), LONG, Delta("nine."), Complete()]
    assert await said(parts) == ["It costs ", "nine."]


async def test_a_long_silence_is_filled_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fillers, "PAUSE", 0.3)
    parts = [0.75, Delta("Hi."), Complete()]
    assert (await said(parts))[:2] == ["One. ", "Two. "]


async def test_a_conversation_hears_one_in_ten_seconds_and_others_have_their_own() -> None:
    made = Fillers(["One.", "Two."], SOON)
    parts = [LONG, Delta("Hi."), Complete()]
    first, second = (a_call(a_request(conversation=name)) for name in ("a", "b"))
    assert await said(parts, made=made, call=first) == ["One. ", "Hi."]
    assert await said(parts, made=made, call=first) == ["Hi."]
    assert await said(parts, made=made, call=second) == ["Two. ", "Hi."]


async def test_platforms_that_flush_are_told_to() -> None:
    assert (await said([LONG, Complete()], flushes=True)) == ["One. <flush /> "]


@pytest.mark.parametrize("heard", [0, 1], ids=["in silence", "at a filler"])
async def test_who_hangs_up_stops_the_engine(heard: int) -> None:
    stopped = asyncio.Event()

    async def engine() -> AsyncGenerator[Batch, None]:
        try:
            await asyncio.sleep(30)
            yield (Complete(),)
        finally:
            stopped.set()

    stream = Fillers(["One."], SOON if heard else 10.0).interceptor(False)(a_call(), engine())
    async with aclosing(stream):
        for _ in range(heard):
            await anext(stream)
        if not heard:
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.wait((waiting,))
    assert stopped.is_set()


async def test_what_is_remembered_of_conversations_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fillers, "PAUSE", 0.01)
    monkeypatch.setattr(fillers, "_MOST_REMEMBERED", 2)
    made = Fillers(["One."], 0.02)
    for name in "abcd":
        call = a_call(a_request(conversation=name))
        assert "One. " in await said([0.1, Delta("Hi"), Complete()], made=made, call=call)
    assert len(made._said) <= 3
