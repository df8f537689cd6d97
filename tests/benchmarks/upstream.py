"""A provider that costs little and keeps time: `python -m tests.benchmarks.upstream`, prints its port.

The model's name says what it tells: `c100-d20` is 100 chunks, 20 ms apart. Each chunk's text is the time
at which it was sent, so that whoever gets it knows how long it was on its way.
"""

import asyncio
import re
import sys
import time

import orjson
import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_BEGIN = (
    b'data: {"id":"chatcmpl-b","object":"chat.completion.chunk","created":1,"model":"m","choices":['
)
_REST = b'],"usage":{"prompt_tokens":9,"completion_tokens":%d}}\n\ndata: [DONE]\n\n'
_MODEL = re.compile(r"c(\d+)-d(\d+)$")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _chunk() -> bytes:
    delta = b'{"index":0,"delta":{"content":"%d "},"finish_reason":null}' % time.monotonic_ns()
    return _framed(_BEGIN + delta + b"]}\n\n")


def _end(chunks: int) -> bytes:
    last = _BEGIN + b'{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n' + _BEGIN + _REST % chunks
    return _framed(last) + b"0\r\n\r\n"


def _whole(chunks: int) -> bytes:
    text = b"word " * chunks
    choice = (
        b'{"index":0,"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}' % text
    )
    body = b'{"id":"b","object":"chat.completion","created":1,"model":"m","choices":[%b' % choice
    body += b'],"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":99}}' % chunks
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


class _Provider(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP's
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, gap, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not gap or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        asked = orjson.loads(body)
        model = _MODEL.search(asked["model"])
        assert model is not None
        self._chunks, self._pause = int(model[1]), int(model[2]) / 1000
        self._left = self._chunks
        if not asked.get("stream"):
            self._transport.write(_whole(self._chunks))
            return
        self._transport.write(_HEAD)
        if self._pause:
            self._due = self._loop.time()
            self._tell()
        else:
            self._transport.writelines([*(_chunk() for _ in range(self._chunks))])
            self._transport.write(_end(self._chunks))

    def _tell(self) -> None:
        self._transport.write(_chunk())
        self._left -= 1
        if self._left:
            self._due += self._pause
            self._timer = self._loop.call_at(self._due, self._tell)
        else:
            self._transport.write(_end(self._chunks))


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Provider, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until whoever started it is gone


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
