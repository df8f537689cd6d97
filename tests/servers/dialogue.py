"""What an upstream says in the tests of a whole gateway, and a client that can hang up anywhere."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from tests.servers.scripted import frames


def piece(text: str | None = None, *, finish: str | None = None) -> dict[str, object]:
    delta = {} if text is None else {"content": text}
    return {
        "id": "up",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "up",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def delta(**fields: object) -> dict[str, object]:
    return {**piece(), "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def calling(
    name: str, arguments: str, call_id: str = "call_9f2c", index: int = 0
) -> dict[str, object]:
    """A piece that is a whole call of a tool."""
    function = {"name": name, "arguments": arguments}
    return delta(
        tool_calls=[{"index": index, "id": call_id, "type": "function", "function": function}]
    )


def usage(tokens_in: int, tokens_out: int) -> dict[str, object]:
    counts = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    return {**piece(), "choices": [], "usage": counts}


def story(*texts: str, tokens_in: int = 7) -> bytes:
    """A whole stream: each text is a token."""
    ending = frames(piece(finish="stop"), usage(tokens_in, len(texts)), b"[DONE]")
    return frames(*[piece(text) for text in texts]) + ending


def config(url: str, **row: object) -> str:
    """A `sluice.yaml` with this upstream as the provider `up`, tried once."""
    settings = {"type": "openai", "base_url": f"{url}/v1", "retries": 0, **row}
    return orjson.dumps({"providers": {"up": settings}}).decode()


def body(text: str = "Tell me.", *, stream: bool = True, model: str = "up/m") -> bytes:
    messages = [{"role": "user", "content": text}]
    return orjson.dumps({"model": model, "stream": stream, "messages": messages})


@dataclass
class Listener:
    """One connection to a gateway, read by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: bytes = b""
    head: dict[str, str] = field(default_factory=dict)

    async def ask(self, key: str, content: bytes, *, withheld: int = 0) -> None:
        """`withheld`: bytes at the end that are promised but not sent."""
        self.writer.write(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n".encode()
            + content[: len(content) - withheld]
        )
        await self.writer.drain()

    async def hear(self, expected: bytes) -> bytes:
        """Read until `expected` came, or to the end."""
        while expected not in self.heard:
            data = await self.reader.read(65536)
            if not data:
                break
            self.heard += data
        return self.heard

    async def hear_texts(self, count: int) -> None:
        """Read until so many pieces of text came."""
        while len(self.texts()) < count:
            data = await self.reader.read(65536)
            assert data, f"the stream ended: {self.heard!r}"
            self.heard += data

    @property
    def request_id(self) -> str | None:
        match = re.search(rb"^x-request-id: (\S+)\r\n", self.heard, re.MULTILINE)
        return match[1].decode() if match else None

    def texts(self) -> list[str]:
        """The pieces of text in whole frames that arrived."""
        found = []
        for load in re.findall(rb"data: (\{.*?\})\n\n", self.heard):
            for choice in orjson.loads(load).get("choices", ()):
                if choice["delta"].get("content"):
                    found.append(choice["delta"]["content"])
        return found


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Listener, None]:
    """Hangs up on the way out."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Listener(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
