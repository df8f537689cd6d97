"""An Anthropic server that answers by script, byte for byte, and remembers what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Framing = Literal["chunked", "length", "eof"]

HOLD = None
"""In an answer's pieces: say nothing more until the peer goes away."""


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(slots=True)
class Answer:
    """`pieces` go out as one write each."""

    pieces: Sequence[bytes | None] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": STREAM})
    framing: Framing = "chunked"
    finish: bool = True
    """Whether the body is ended as its framing asks; the connection is dropped otherwise."""


STREAM = "text/event-stream; charset=utf-8"


class Upstream:
    """Gives `answer` to every request, those of `first` before it."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.first: list[Answer] = []
        self.asked: list[Asked] = []
        self.connections = 0
        """All that were ever made."""
        self.open = 0
        self.idle = asyncio.Event()
        """Set while no connection is open."""
        self.arrived = asyncio.Event()
        """Set once a request has come."""
        self.left = asyncio.Event()
        """Set when a peer went away while it was kept waiting."""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def run(self) -> AsyncIterator["Upstream"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.idle.clear()
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, path, headers, body))
        self.arrived.set()
        answer = self.first.pop(0) if self.first else self.answer
        writer.write(_head(answer))
        for piece in answer.pieces:
            if piece is HOLD:
                with suppress(ConnectionError):
                    await reader.read(1)
                self.left.set()
                return False
            writer.write(_chunk(piece) if answer.framing == "chunked" else piece)
            await writer.drain()
            if len(answer.pieces) > 1:
                await asyncio.sleep(0)  # a read of its own, most of the time
        if answer.finish and answer.framing == "chunked":
            writer.write(b"0\r\n\r\n")
        return answer.finish and answer.framing != "eof"


def _head(answer: Answer) -> bytes:
    headers = dict(answer.headers)
    if answer.framing == "chunked":
        headers["transfer-encoding"] = "chunked"
    elif answer.framing == "length":
        headers["content-length"] = str(sum(len(piece or b"") for piece in answer.pieces))
    else:
        headers["connection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""


def refusal(status: int, kind: str, message: str, **headers: str) -> Answer:
    """An error in the place of an answer, as Anthropic writes it."""
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(
        [json.dumps(error).encode()],
        status=status,
        headers={"content-type": "application/json", "request-id": "req_1", **named},
        framing="length",
    )


# What the real server writes


def event(value: Mapping[str, object]) -> bytes:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()


def start(**usage: int) -> bytes:
    message: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1, **usage},
    }
    return event({"type": "message_start", "message": message})


def ping() -> bytes:
    return event({"type": "ping"})


def block(index: int, content: Mapping[str, object], *deltas: Mapping[str, object]) -> bytes:
    return b"".join(
        [
            event({"type": "content_block_start", "index": index, "content_block": content}),
            *(
                event({"type": "content_block_delta", "index": index, "delta": delta})
                for delta in deltas
            ),
            event({"type": "content_block_stop", "index": index}),
        ]
    )


def text(index: int, *pieces: str) -> bytes:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return block(index, {"type": "text", "text": ""}, *deltas)


def thinking(index: int, *pieces: str, signature: str) -> bytes:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    return block(
        index,
        {"type": "thinking", "thinking": "", "signature": ""},
        *deltas,
        {"type": "signature_delta", "signature": signature},
    )


def redacted(index: int, data: str) -> bytes:
    return block(index, {"type": "redacted_thinking", "data": data})


def tool_use(index: int, call_id: str, name: str, *fragments: str, kind: str = "tool_use") -> bytes:
    deltas = [{"type": "input_json_delta", "partial_json": fragment} for fragment in fragments]
    return block(index, {"type": kind, "id": call_id, "name": name, "input": {}}, *deltas)


def end(reason: str | None = "end_turn", output_tokens: int = 15, **usage: object) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    counts = {"output_tokens": output_tokens, **usage}
    return event({"type": "message_delta", "delta": delta, "usage": counts}) + event(
        {"type": "message_stop"}
    )


def error(kind: str, message: str) -> bytes:
    return event(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    )


HELLO = start() + ping() + text(0, "Hello", ", wörld\u2028!") + end()

THOUGHTS = (
    start(cache_read_input_tokens=100, cache_creation_input_tokens=10)
    + thinking(0, "Let me ", "see.", signature="c2lnbmVk")
    + redacted(1, "cmVkYWN0ZWQ=")
    + text(2, "Two.")
    + end(output_tokens=40, output_tokens_details={"thinking_tokens": 22})
)

TOOLS = (
    start()
    + text(0, "Looking.")
    + tool_use(1, "toolu_1", "weather", "", '{"ci', 'ty": "Oslo"}')
    + tool_use(2, "toolu_2", "now")
    + end("tool_use", output_tokens=60)
)

SEARCH = (
    start()
    + text(0, "I look. ")
    + tool_use(1, "srvtoolu_1", "web_search", '{"query": "tides"}', kind="server_tool_use")
    + block(
        2,
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [
                {
                    "type": "web_search_result",
                    "url": "https://tides.example/oslo",
                    "title": "Tides",
                    "encrypted_content": "x" * 4000,
                    "page_age": "1 day",
                }
            ],
        },
    )
    + block(
        3,
        {"type": "text", "text": "", "citations": []},
        {
            "type": "citations_delta",
            "citation": {
                "type": "web_search_result_location",
                "cited_text": "High at noon",
                "url": "https://tides.example/oslo",
                "title": "Tides",
                "encrypted_index": "y",
            },
        },
        {"type": "text_delta", "text": "High at noon."},
    )
    + tool_use(4, "srvtoolu_2", "web_search", '{"query": "more"}', kind="server_tool_use")
    + block(
        5,
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_2",
            "content": {
                "type": "web_search_tool_result_error",
                "error_code": "max_uses_exceeded",
            },
        },
    )
    + text(6, " That is all.")
    + end(
        output_tokens=80,
        input_tokens=300,
        server_tool_use={"web_search_requests": 2},
    )
)
