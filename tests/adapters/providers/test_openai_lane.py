"""Text that comes while it is waited for goes straight to whoever opened a lane, and nothing else does."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from adapters.providers.openai import OpenAIProvider
from gateway.errors import ProviderTruncated
from gateway.events import Complete, Delta, Event, ToolCallReady, Usage
from gateway.lane import Lane, divert
from gateway.ports import Batch
from gateway.request import ChatRequest
from tests.servers.dialogue import calling, delta, piece, usage
from tests.servers.scripted import CHUNKED, LAST_CHUNK, Exchange, chunk, frames, scripted

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
TURNS = 20
"""Of the loop, which serves both ends here: more than it takes to read what was sent and to wait for more."""
ENDING = frames(piece(finish="stop"), usage(3, 2), b"[DONE]")


@dataclass
class Heard:
    """What came, by the way that it came."""

    lane: list[Event] = field(default_factory=list)
    long: list[Event] = field(default_factory=list)
    all: list[Event] = field(default_factory=list)
    clear: bool = True

    def take(self, batch: Batch) -> None:
        self.lane += batch
        self.all += batch

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.all if isinstance(event, Delta))


async def said(
    parts: Sequence[bytes], heard: Heard, *, close: bool = False, **config: object
) -> None:
    """Each part is read by itself."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        for part in parts:
            await exchange.send(chunk(part))
            for _ in range(TURNS):
                await asyncio.sleep(0)
        if close:
            exchange.writer.close()
        else:
            await exchange.send(LAST_CHUNK)

    async with scripted(script) as upstream:
        provider = OpenAIProvider("up", {"base_url": f"{upstream.url}/v1", **config})
        try:
            lane = Lane[Batch](lambda: heard.clear, heard.take)
            events = divert(provider.stream(REQUEST), lane)
            async with asyncio.timeout(20), aclosing(events):
                async for batch in events:
                    heard.long += batch
                    heard.all += batch
        finally:
            await provider.aclose()


def tokens(count: int) -> list[bytes]:
    return [frames(piece(f"w{number} ")) for number in range(count)]


async def test_text_takes_the_lane_once_it_is_known_what_is_around_it() -> None:
    heard = Heard()
    await said([*tokens(8), ENDING], heard)
    assert heard.text == "".join(f"w{number} " for number in range(8))
    assert heard.lane == [Delta(f"w{number} ") for number in range(2, 8)]
    assert heard.long[-1] == Complete("stop", usage=Usage(3, 2))


async def test_all_is_yielded_while_the_lane_is_not_clear() -> None:
    heard = Heard(clear=False)
    await said([*tokens(6), ENDING], heard)
    assert heard.text == "".join(f"w{number} " for number in range(6))
    assert heard.lane == []


async def test_order_is_kept_where_the_way_changes() -> None:
    heard = Heard()
    reads = [
        *tokens(4),
        frames(piece("a"), piece("b")),
        frames(piece("c")),
        frames(calling("f", "{}")),
        frames(piece("d")),
        frames(piece("")),
        frames(piece("é\u2028\U0001f30a")),
        frames(piece("e"))[:-40],
        frames(piece("e"))[-40:],
        frames(piece("f")),
        frames(piece("g"), piece(finish="tool_calls"), usage(3, 2), b"[DONE]"),
    ]
    await said(reads, heard)
    assert heard.text == "w0 w1 w2 w3 abcdé\u2028\U0001f30aefg"
    assert [event.text for event in heard.lane if isinstance(event, Delta)] == [
        "w2 ",
        "w3 ",
        "a",
        "b",
        "c",
        "d",
        "é\u2028\U0001f30a",
        "f",
    ]
    assert sum(isinstance(event, ToolCallReady) for event in heard.long) == 1


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(frames(piece("a"), delta(refusal="no"), piece("b")), id="other events"),
        pytest.param(frames(piece("a")) + b": a comment\n\n" + frames(piece("b")), id="a comment"),
        pytest.param(frames(piece("a"), {**piece("b"), "id": "other"}), id="another head"),
        pytest.param(
            frames(piece("a"), {**piece("b"), "usage": {"prompt_tokens": 9}}), id="another tail"
        ),
        pytest.param(
            frames(piece("a")) + frames(piece("b")).replace(b'"b"', b'"b","x":"c"'),
            id="more within",
        ),
        pytest.param(
            frames(piece("a")) + frames(piece("b"))[:-2], id="an event that has not ended"
        ),
        pytest.param(b"\n" + frames(piece("a"), piece("b")), id="an empty line before"),
    ],
)
async def test_a_read_with_anything_else_goes_the_long_way_as_a_whole(odd: bytes) -> None:
    heard = Heard()
    await said([*tokens(4), odd, b"\n\n", *tokens(1), ENDING], heard)
    assert heard.text == "w0 w1 w2 w3 abw0 "
    assert [event.text for event in heard.lane if isinstance(event, Delta)] == ["w2 ", "w3 ", "w0 "]


async def test_a_read_of_much_text_takes_the_lane_in_one() -> None:
    heard = Heard()
    many = [piece(f"{number}é ") for number in range(60)]
    await said([*tokens(4), frames(*many), ENDING], heard)
    assert heard.text == "w0 w1 w2 w3 " + "".join(f"{number}é " for number in range(60))
    assert len(heard.lane) == 62


async def test_lines_may_end_as_they_do_on_windows() -> None:
    heard = Heard()
    await said([part.replace(b"\n", b"\r\n") for part in (*tokens(5), ENDING)], heard)
    assert heard.text == "w0 w1 w2 w3 w4 "
    assert len(heard.lane) == 3


async def test_a_cut_after_the_lane_is_a_cut() -> None:
    heard = Heard()
    with pytest.raises(ProviderTruncated):
        await said(tokens(5), heard, close=True)
    assert heard.text == "w0 w1 w2 w3 w4 "
    assert len(heard.lane) == 3


async def test_thoughts_within_the_text_are_parted_from_it() -> None:
    heard = Heard()
    parts = ["<think>", "Hm, ", "well. ", "Let me see.", "</think>", "The ", "sea ", "comes."]
    reads = [frames(piece(part)) for part in parts]
    await said([*reads, ENDING], heard, thoughts_in_text="tagged")
    assert heard.text == "The sea comes."
    assert heard.lane == []


async def test_what_a_step_raises_is_raised_where_the_answer_is_read() -> None:
    class Faulty(Heard):
        def take(self, batch: Batch) -> None:
            super().take(batch)
            if Delta("w3 ") in batch:
                raise KeyError("a fault of whoever is beyond")

    heard = Faulty()
    with pytest.raises(KeyError, match="a fault of whoever is beyond"):
        await said([*tokens(6), ENDING], heard)
    assert heard.text == "w0 w1 w2 w3 "
