"""What was written in a row goes out together, and nothing stays behind."""

import asyncio

from gateway.server.outlet import Outlet


class Wire(asyncio.Transport):
    """Keeps what was written, call by call."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 7)})
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:  # type: ignore[override]  # nothing else is written
        assert not self.closing, "written to a closed transport"
        self.written.append(data)

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing


async def test_writes_of_one_step_are_one() -> None:
    wire = Wire()
    outlet = Outlet(wire)
    outlet.write(b"a")
    outlet.write(b"b")
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"ab"]
    outlet.write(b"c")
    await asyncio.sleep(0)
    assert wire.written == [b"ab", b"c"]


async def test_what_is_pushed_goes_at_once_with_what_was_written_before() -> None:
    wire = Wire()
    outlet = Outlet(wire)
    outlet.push(b"a")
    outlet.write(b"b")
    outlet.push(b"c")
    assert wire.written == [b"a", b"bc"]
    await asyncio.sleep(0)
    assert wire.written == [b"a", b"bc"]


async def test_what_was_written_goes_before_the_connection_is_closed() -> None:
    wire = Wire()
    outlet = Outlet(wire)
    outlet.write(b"a")
    outlet.close()
    assert (wire.written, outlet.is_closing()) == ([b"a"], True)
    outlet.write(b"late")
    outlet.push(b"late")
    await asyncio.sleep(0)
    assert wire.written == [b"a"]


async def test_to_abort_sends_nothing_more() -> None:
    wire = Wire()
    outlet = Outlet(wire)
    outlet.write(b"a")
    outlet.abort()
    await asyncio.sleep(0)
    assert wire.written == []


async def test_a_peer_that_left_meanwhile_is_sent_nothing() -> None:
    wire = Wire()
    outlet = Outlet(wire)
    outlet.write(b"a")
    wire.closing = True
    await asyncio.sleep(0)
    assert wire.written == []


async def test_what_is_known_of_the_connection_is_the_transports() -> None:
    assert Outlet(Wire()).get_extra_info("peername") == ("127.0.0.1", 7)
    assert Outlet(Wire()).get_extra_info("socket", "none") == "none"
