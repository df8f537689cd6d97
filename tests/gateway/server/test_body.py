import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import pytest

from gateway.errors import GatewayError, InvalidRequest, TooLarge
from gateway.server.body import MAX_DEPTH, ClientGone, TooSlow, parse, read

Messages = Sequence[MutableMapping[str, Any] | float]
GONE = {"type": "http.disconnect"}


def _part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def _receive(messages: Messages) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
    left = list(messages)

    async def receive() -> MutableMapping[str, Any]:
        message = left.pop(0)
        while isinstance(message, float):
            await asyncio.sleep(message)
            message = left.pop(0)
        return message

    return receive


async def _read(messages: Messages, *, declared: str | None = None, timeout: float = 5) -> bytes:
    return await read(_receive(messages), declared=declared, limit=10, timeout=timeout)


@pytest.mark.parametrize(
    ("messages", "declared"),
    [
        pytest.param([_part(b"0123456789", False)], "10", id="at once, at the limit"),
        pytest.param([_part(b"01234"), _part(b"56789", False)], "10", id="in two parts"),
        pytest.param(
            [*(_part(b"%d" % n) for n in range(10)), _part(b"", False)], None, id="chunked"
        ),
        pytest.param([_part(b"0123456789", False)], "3", id="declared too small"),
        pytest.param([_part(b"0123456789", False)], "nonsense", id="declared as nonsense"),
        pytest.param([_part(b"0123456789", False)], "²", id="declared as no digit"),
        pytest.param([_part(b"0123456789", False)], "-5", id="declared negative"),
        pytest.param([_part(b"0123456789", False)], "", id="declared as nothing"),
    ],
)
async def test_the_whole_body_is_read(messages: Messages, declared: str | None) -> None:
    assert await _read(messages, declared=declared) == b"0123456789"


async def test_a_message_without_a_body_is_an_empty_one() -> None:
    assert await _read([{"type": "http.request"}]) == b""


@pytest.mark.parametrize(
    ("messages", "declared"),
    [
        pytest.param([], "11", id="declared, before a byte is read"),
        pytest.param([_part(b"01234567890", False)], None, id="at once"),
        pytest.param([_part(b"0123456789"), _part(b"0", False)], None, id="in parts"),
        pytest.param([_part(b"0123456789"), _part(b"0", False)], "5", id="more than declared"),
        pytest.param([_part(b"01234")] * 3, None, id="without an end"),
    ],
)
async def test_a_body_over_the_limit_is_refused_as_soon_as_that_is_known(
    messages: Messages, declared: str | None
) -> None:
    with pytest.raises(TooLarge) as caught:
        await _read(messages, declared=declared)
    assert caught.value.status == 413
    assert caught.value.message == "The request's body is larger than 10 bytes."


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([30.0], id="nothing"),
        pytest.param([_part(b"0"), 30.0], id="a start"),
        pytest.param([item for _ in range(200) for item in (_part(b""), 0.01)], id="drop by drop"),
    ],
)
async def test_a_body_that_does_not_arrive_in_time_is_refused(messages: Messages) -> None:
    with pytest.raises(TooSlow) as caught:
        await _read(messages, timeout=0.1)
    assert (caught.value.status, caught.value.code) == (408, "request_timeout")
    assert caught.value.message == "The request's body did not arrive within 0.1 s."


@pytest.mark.parametrize(
    "messages",
    [pytest.param([GONE], id="at once"), pytest.param([_part(b"0"), GONE], id="halfway")],
)
async def test_a_client_that_leaves_is_told_nothing(messages: Messages) -> None:
    with pytest.raises(ClientGone):
        await _read(messages)


def _nested(depth: int) -> bytes:
    """An object with lists in it, `depth` containers deep."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        pytest.param(b"{}", {}, id="empty object"),
        pytest.param(b' {"a": [1, {"b": null}]}\n', {"a": [1, {"b": None}]}, id="spaces around"),
        pytest.param('{"a":"é\\u2028"}'.encode(), {"a": "é\u2028"}, id="unicode"),
        pytest.param(b'{"a":1,"a":2}', {"a": 2}, id="a name twice"),
    ],
)
def test_a_json_object_is_a_body(data: bytes, value: object) -> None:
    assert parse(data) == value


def test_a_body_may_nest_to_the_limit() -> None:
    assert list(parse(_nested(MAX_DEPTH))) == ["a"]


def test_a_wide_body_is_not_a_deep_one() -> None:
    assert len(parse(b'{"a":[' + b",".join([b"[{}]"] * 10_000) + b"]}")) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "The request has no body; expected a JSON object.", id="no body"),
        pytest.param(b"[]", "The body has to be a JSON object.", id="a list"),
        pytest.param(b'"text"', "The body has to be a JSON object.", id="a text"),
        pytest.param(b"null", "The body has to be a JSON object.", id="null"),
        pytest.param(
            _nested(MAX_DEPTH + 1), "The body is nested deeper than 64 levels.", id="too deep"
        ),
        pytest.param(_nested(1000), "The body is nested deeper than 64 levels.", id="far too deep"),
    ],
)
def test_any_other_body_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    assert caught.value.message == message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{", id="cut"),
        pytest.param(b"{}{}", id="two of them"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":NaN}', id="no number"),
        pytest.param(b'{"a":1e999}', id="a number too large"),
        pytest.param(b'{"a":"\xff"}', id="no UTF-8"),
        pytest.param(b'{"a":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param(b'{"a":"\x00"}', id="a control character"),
        pytest.param(b"[" * 100_000, id="deeper than the parser goes"),
        pytest.param(b'{"a":' * 100_000, id="objects deeper than the parser goes"),
        pytest.param(_nested(5000), id="well-formed and deeper than the parser goes"),
        pytest.param(b"\x00" * 100, id="binary"),
    ],
)
def test_what_is_not_json_is_refused_without_repeating_it(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^We could not parse the JSON body") as caught:
        parse(data)
    assert len(caught.value.message) < 200


def test_all_refusals_are_the_clients_fault() -> None:
    for error in (InvalidRequest("x"), TooLarge("x"), TooSlow("x")):
        assert isinstance(error, GatewayError)
        assert error.event().type == "invalid_request_error"
        assert 400 <= error.event().status < 500
