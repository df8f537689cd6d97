"""The response of a stream, against a server whose client does as the test says."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import pytest
from starlette.types import Message, Scope

from gateway.server.body import ClientGone
from gateway.server.presence import Presence
from gateway.server.stream import ABORT, PUSH, CallStream
from gateway.sse import HEARTBEAT


class Server:
    """What uvicorn is to a response: it waits for a client that does not read, and drops the rest."""

    pushes = False
    """Whether it takes pieces of a body without being waited for."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.gone = asyncio.Event()
        self.aborted = False
        self.begun = 0

    @property
    def scope(self) -> Scope:
        extensions = {ABORT: {"call": self.abort}}
        if self.pushes:
            extensions[PUSH] = {"flow": self, "call": self.push}
        return {"type": "http", "method": "POST", "extensions": extensions}

    @property
    def write_paused(self) -> bool:
        return not self.reads.is_set()

    def push(self, piece: bytes) -> None:
        assert self.reads.is_set()
        assert self.sent, "a piece of a response that has not begun"
        self.sent.append({"type": "http.response.body", "body": piece, "more_body": True})

    async def begin(self) -> dict[str, str]:
        self.begun += 1
        return {"x-request-id": "r"}

    def abort(self) -> None:
        self.aborted = True
        self.gone.set()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.reads.is_set():
            await self.reads.wait()
        self.sent.append(message)

    @property
    def frames(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message.get("body")]

    @property
    def whole(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False

    async def run(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        opening: bytes = b"",
        patience: float = 60,
        heartbeat: float = 60,
        send_timeout: float = 60,
        on_disconnect: Callable[[], None] = lambda: None,
        last: Callable[[], bool] = lambda: False,
    ) -> None:
        others = asyncio.all_tasks()
        async with asyncio.timeout(20):
            try:
                async with Presence(self.scope, self.receive, on_disconnect) as client:
                    response = CallStream(
                        frames,
                        begin=self.begin,
                        opening=opening,
                        patience=patience,
                        heartbeat=heartbeat,
                        send_timeout=send_timeout,
                        drop=client.dismiss,
                        last=last,
                    )
                    await response(self.scope, self.receive, self.send)
            finally:
                await asyncio.sleep(0)
                left = asyncio.all_tasks() - others
                assert not left, "a response leaves no task behind"


@pytest.fixture(autouse=True, params=[False, True], ids=["any server", "ours"])
def _pushes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "pushes", request.param)


class Frames:
    """A stream that tells whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def flood(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            self.closed = True

    async def pause(self, *pauses: float) -> AsyncGenerator[bytes, None]:
        try:
            for number, pause in enumerate(pauses):
                await asyncio.sleep(pause)
                yield b"%d" % number
        finally:
            self.closed = True


async def test_frames_go_out_one_by_one_with_headers_of_an_event_stream() -> None:
    server, frames = Server(), Frames()
    await server.run(frames.pause(0, 0, 0))
    headers = {name.decode(): value.decode() for name, value in server.sent[0]["headers"]}
    assert headers == {
        "x-request-id": "r",
        "cache-control": "no-store",
        "connection": "keep-alive",
        "x-accel-buffering": "no",
        "content-type": "text/event-stream; charset=utf-8",
    }
    assert server.frames == [b"0", b"1", b"2"]
    assert server.whole
    assert frames.closed


async def test_the_end_goes_with_the_last_frame_where_nobody_has_to_be_waited_for() -> None:
    server, given = Server(), [b"0", b"1", b"2"]
    closed: list[bool] = []

    async def frames() -> AsyncGenerator[bytes, None]:
        while given:
            yield given.pop(0)
        await asyncio.sleep(0.01)  # an engine that takes its time to close
        closed.append(server.whole)

    await server.run(frames(), last=lambda: not given)
    bodies = [(message["body"], message["more_body"]) for message in server.sent[1:]]
    apart = [(b"0", True), (b"1", True), (b"2", True), (b"", False)]
    assert bodies == ([*apart[:2], (b"2", False)] if server.pushes else apart)
    assert closed == [server.pushes]


async def test_a_response_begins_when_its_first_frame_is_late() -> None:
    server = Server()
    task = asyncio.create_task(server.run(Frames().pause(0.3, 0), opening=b"<", patience=0.05))
    await asyncio.sleep(0.15)
    assert (server.begun, server.frames) == (1, [b"<"])
    await task
    assert (server.begun, server.frames) == (1, [b"<", b"0", b"1"])
    assert server.whole


async def test_no_heartbeat_goes_before_a_beginning_that_takes_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def begin(server: Server) -> dict[str, str]:
        await asyncio.sleep(0.3)
        return {}

    monkeypatch.setattr(Server, "begin", begin)
    server = Server()
    await server.run(Frames().pause(0), heartbeat=0.05, send_timeout=0.1)
    assert server.frames == [b"0"]
    assert server.whole


async def test_a_response_that_begins_in_time_has_its_opening_before_the_first_frame() -> None:
    server = Server()
    await server.run(Frames().pause(0.01, 0), opening=b"<", patience=0.05)
    assert (server.begun, server.frames) == (1, [b"<0", b"1"])


@pytest.mark.parametrize("patience", [5, 0.0])
async def test_a_response_without_frames_has_its_opening_all_the_same(patience: float) -> None:
    async def nothing() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0.05)
        return
        yield b""

    server = Server()
    await server.run(nothing(), opening=b"<", patience=patience)
    assert (server.begun, server.frames) == (1, [b"<"])
    assert server.whole


async def test_a_silence_before_the_response_is_no_reason_for_a_heartbeat() -> None:
    server = Server()
    await server.run(Frames().pause(0.2, 0), patience=5, heartbeat=0.05)
    assert server.sent[0]["type"] == "http.response.start"
    assert server.frames == [b"0", b"1"]


@pytest.mark.parametrize("patience", [5, 0.02])
async def test_a_failure_before_the_first_frame_is_the_callers(patience: float) -> None:
    async def fail() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0.1)
        raise ValueError("why")
        yield b""

    server = Server()
    with pytest.raises(ValueError, match="why"):
        await server.run(fail(), patience=patience)
    assert server.begun == (patience < 1)


async def test_heartbeats_fill_a_silence_and_stop_with_it() -> None:
    server = Server()
    await server.run(Frames().pause(0.3, 0, 0.3), heartbeat=0.05)
    beats = server.frames.count(HEARTBEAT)
    assert 4 <= beats <= 12
    assert [frame for frame in server.frames if frame != HEARTBEAT] == [b"0", b"1", b"2"]
    assert server.whole


async def test_nothing_comes_after_the_last_frame_however_long_its_end_takes() -> None:
    server, over = Server(), False

    async def linger() -> AsyncGenerator[bytes, None]:
        nonlocal over
        yield b"[DONE]"
        over = True
        await asyncio.sleep(0.2)

    await server.run(linger(), heartbeat=0.02, last=lambda: over)
    assert server.frames == [b"[DONE]"]


@pytest.mark.parametrize("pauses", [(0.0, 0.0), (0.0, 30.0)], ids=["frame", "heartbeat"])
async def test_a_client_that_reads_nothing_is_dropped(pauses: tuple[float, ...]) -> None:
    server, frames = Server(), Frames()
    told: list[str] = []

    async def stop_reading(source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for frame in source:
                yield frame
                server.reads.clear()
        finally:
            await source.aclose()

    with pytest.raises(ClientGone):
        await server.run(
            stop_reading(frames.pause(*pauses)),
            heartbeat=0.05,
            send_timeout=0.3,
            on_disconnect=lambda: told.append("gone"),
        )
    assert server.aborted
    assert frames.closed
    assert told == ["gone"]
    assert server.frames == [b"0"]


async def test_a_client_that_reads_again_gets_all_of_it_and_no_heartbeat_twice() -> None:
    server = Server()
    asyncio.get_running_loop().call_later(0.15, server.reads.clear)
    asyncio.get_running_loop().call_later(0.5, server.reads.set)
    await server.run(Frames().pause(0.1, 0.3, 0.3), heartbeat=0.1, send_timeout=10)
    assert [frame for frame in server.frames if frame != HEARTBEAT] == [b"0", b"1", b"2"]
    assert server.frames.count(HEARTBEAT) <= 4
    assert server.whole


@pytest.mark.parametrize("flooding", [True, False], ids=["flood", "silence"])
async def test_a_client_that_leaves_ends_the_stream(flooding: bool) -> None:
    server, frames = Server(), Frames()
    told: list[bool] = []
    asyncio.get_running_loop().call_later(0.05, server.gone.set)
    with pytest.raises(ClientGone):
        await server.run(
            frames.flood() if flooding else frames.pause(0, 60),
            on_disconnect=lambda: told.append(frames.closed),
        )
    assert frames.closed
    assert told == [False]


async def test_a_server_that_cancels_the_request_cancels_the_stream() -> None:
    server, frames = Server(), Frames()
    running = asyncio.create_task(server.run(frames.pause(0, 60)))
    await asyncio.sleep(0.05)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert frames.closed


async def test_a_fault_of_the_stream_goes_to_the_server() -> None:
    async def fail() -> AsyncGenerator[bytes, None]:
        yield b"x"
        raise ZeroDivisionError

    server = Server()
    with pytest.raises(ZeroDivisionError):
        await server.run(fail())
    assert not server.whole
