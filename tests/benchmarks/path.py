"""The path of a chunk without its network: from the bytes of a provider to those for a client."""

from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime

from adapters.providers.chunks import ChunkReader
from adapters.providers.openai import listener
from adapters.wires.openai_chat import OpenAIChatWire
from gateway.lane import Lane, Stream, divert
from gateway.ports import Batch, Events
from gateway.records import ApiKey, Call
from gateway.request import ChatRequest
from gateway.server.interceptors.meter import Meter
from gateway.server.interceptors.notifications import ToolFilter
from gateway.server.pipeline import Delivery, run

HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
END = (
    HEAD + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":200}}\n\n'
    b"data: [DONE]\n\n"
)
REQUEST = ChatRequest(
    model="m", messages=[{"role": "user", "content": "Hi"}], stream=True, include_usage=True
)


def call() -> Call:
    key = ApiKey(
        id="k",
        email="a@example.com",
        name="",
        tier="default",
        masked="sk-…",
        created_at=datetime.now(UTC),
    )
    return Call(id="0193e4a8-0000-7000-8000-000000000000", key=key, request=REQUEST, created=1)


def reads(chunks: int, each: int) -> list[bytes]:
    """What a provider sends, `each` chunks in a read, and the end in one of its own."""
    sent = [
        HEAD + b'"choices":[{"index":0,"delta":{"content":"w%d "},"finish_reason":null}]}\n\n' % n
        for n in range(chunks)
    ]
    return [*(b"".join(sent[at : at + each]) for at in range(0, chunks, each)), END]


def translate(received: Iterable[bytes]) -> bytes:
    """Split, read into events, encoded: nothing else."""
    reader, encoder = ChunkReader("bench"), OpenAIChatWire().encoder(call())
    return b"".join(encoder.encode(batch) for read in received if (batch := reader.feed(read)))


class Replay:
    """An engine that has all of its answer already."""

    def __init__(self, received: Iterable[bytes]) -> None:
        self._received = received

    def stream(self, call: Call, request: ChatRequest, /) -> Events:
        return Stream(self._stream)

    async def _stream(self, lane: Lane[Batch] | None) -> Events:
        reader = ChunkReader("bench")
        listen = None if lane is None else listener(reader, lane)
        for read in self._received:
            if listen is not None and listen(read):
                continue
            if batch := reader.feed(read):
                yield batch


def deliver(received: Iterable[bytes], *, lane: bool = False) -> bytes:
    """The same through everything that a call has on its way: seal, tools, meter, delivery."""
    made = call()
    steps = (ToolFilter(made.detail), Meter(lambda: 9))
    delivery = Delivery(run(made, Replay(received), steps), lambda error: None)

    async def gather() -> bytes:
        sent: list[bytes] = []
        frames = delivery.frames(OpenAIChatWire().encoder(made))
        if lane:
            frames = divert(frames, Lane(lambda: True, sent.append))
        async for frame in frames:
            sent.append(frame)
        return b"".join(sent)

    return _finish(gather())


def pass_on(received: Iterable[bytes]) -> bytes:
    """The same past all who wait, as a piece goes that comes by itself."""
    return deliver(received, lane=True)


def _finish(work: Coroutine[object, None, bytes]) -> bytes:
    """Runs what never waits for anything."""
    try:
        work.send(None)
    except StopIteration as end:
        sent: bytes = end.value
        return sent
    raise AssertionError("it waits for something")


PATHS: dict[str, Callable[[Iterable[bytes]], bytes]] = {
    "translate": translate,
    "deliver": deliver,
    "pass on": pass_on,
}
