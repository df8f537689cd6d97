"""Clients: they ask, check every answer, and note how long its chunks were on their way."""

import asyncio
import re
import time
from dataclasses import dataclass, field

import orjson

_TEXT = re.compile(rb'"content":"(\d+) "')
_TIMEOUT = 60.0


class WrongAnswer(Exception):
    """Something else came than was sent. Its figures are worth nothing."""


@dataclass(slots=True)
class Load:
    """What one phase asks for."""

    clients: int
    answers: int
    """Of each client, one after the other."""
    chunks: int
    pause: int
    """Milliseconds between chunks."""
    stream: bool = True

    def body(self, model: str) -> bytes:
        return orjson.dumps(
            {
                "model": f"{model}c{self.chunks}-d{self.pause}",
                "messages": [{"role": "user", "content": "Tell me about the sea. " * 8}],
                "stream": self.stream,
                **({"stream_options": {"include_usage": True}} if self.stream else {}),
            }
        )


@dataclass(slots=True)
class Heard:
    answers: int = 0
    chunks: int = 0
    first: list[float] = field(default_factory=list)
    """Milliseconds from the request to the first chunk."""
    delays: list[float] = field(default_factory=list)
    """Milliseconds from the provider's sending of a chunk to its arrival."""


class _Client(asyncio.Protocol):
    def __init__(self, load: Load, request: bytes, heard: Heard) -> None:
        self._load, self._request, self._heard = load, request, heard
        self._left = load.answers
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP's
        self._transport = transport
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(WrongAnswer(f"the connection was closed ({exc})"))

    def _ask(self) -> None:
        self._received: list[bytes] = []
        self._chunks = 0
        self._asked = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._received.append(data)
        if self._load.stream:
            for sent in _TEXT.findall(data):
                if not self._chunks:
                    self._heard.first.append((now - self._asked) / 1e6)
                self._chunks += 1
                self._heard.delays.append((now - int(sent)) / 1e6)
            if data.endswith(b"0\r\n\r\n"):
                self._check(b"".join(self._received))
        elif data.endswith(b"}"):
            answer = b"".join(self._received)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if length is None or len(body) >= int(length[1]):
                self._check(answer)

    def _check(self, answer: bytes) -> None:
        if not (answer.startswith(b"HTTP/1.1 200 ") and self._is_whole(answer)):
            self._fail(answer)
            return
        self._heard.answers += 1
        self._heard.chunks += self._load.chunks
        self._left -= 1
        if self._left:
            self._ask()
        else:
            self.done.set_result(None)
            self._transport.close()

    def _is_whole(self, answer: bytes) -> bool:
        chunks = self._load.chunks
        if self._load.stream:
            usage = b'"completion_tokens":%d' % chunks
            # A chunk that the reads cut in two has no delay, and is here all the same.
            told = len(_TEXT.findall(answer))
            return b"data: [DONE]\n\n" in answer and usage in answer and told == chunks
        content: str = orjson.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["message"][
            "content"
        ]
        return len(content.split()) == chunks

    def _fail(self, answer: bytes) -> None:
        if not self.done.done():
            self.done.set_exception(WrongAnswer(answer[:500].decode(errors="replace")))


async def make(load: Load, url: str, model: str, key: str) -> Heard:
    """Raises `WrongAnswer`."""
    host, port = url.removeprefix("http://").split(":")
    body = load.body(model)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    heard = Heard()
    loop = asyncio.get_running_loop()

    async def run(number: int) -> None:
        # Not all at once: streams of one moment would stay in step for ever.
        await asyncio.sleep(number / load.clients * max(load.pause, 1) / 1000 * 20)
        _, client = await loop.create_connection(
            lambda: _Client(load, head.encode() + body, heard), host, int(port)
        )
        await client.done

    async with asyncio.timeout(_TIMEOUT):
        await asyncio.gather(*(run(number) for number in range(load.clients)))
    return heard
