import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import orjson
import pytest

from gateway.secrets import conceal
from gateway.server import logs
from gateway.server.logs import JsonFormatter, Lines, TextFormatter

KEY = "sk-Ab3dEf6hIj9k"


def _record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("acme.part", logging.INFO, __file__, 1, message, args, None)
    record.created = 1_764_000_000.5
    record.__dict__.update(extra)
    return record


def _failed(message: str, error: Exception) -> logging.LogRecord:
    record = _record(message)
    try:
        raise error
    except type(error):
        record.exc_info = sys.exc_info()
    return record


def test_a_line_is_one_json_object() -> None:
    line = JsonFormatter().format(_record("call %s\nnext", "ok", model="m\n", tokens=3))
    assert "\n" not in line
    assert orjson.loads(line) == {
        "time": "2025-11-24T16:00:00.500+00:00",
        "level": "info",
        "logger": "acme.part",
        "message": "call ok\nnext",
        "model": "m\n",
        "tokens": 3,
    }


def test_a_line_carries_the_id_of_its_call() -> None:
    with logs.request("outer"):
        with logs.request("inner"):
            assert orjson.loads(JsonFormatter().format(_record("x")))["request_id"] == "inner"
        assert orjson.loads(JsonFormatter().format(_record("x")))["request_id"] == "outer"
    assert "request_id" not in orjson.loads(JsonFormatter().format(_record("x")))


def test_a_value_that_is_no_json_is_told_as_text() -> None:
    line = orjson.loads(JsonFormatter().format(_record("x", path=logging.Formatter, names={1})))
    assert line["names"] == "{1}"


@pytest.mark.parametrize(
    "text",
    [
        f"the key {KEY} is wrong",
        f"Authorization: Bearer {KEY}",
        "Authorization: Bearer AbCdEfGh.IjKl/MnOp==",
        f"{{'api_key': '{KEY}'}}",
        f"https://x.example/?key={KEY}&a=1",
        "gsk-Ab3dEf6hIj9k, xai-Ab3dEf6hIj9k",
    ],
)
def test_keys_are_masked(text: str) -> None:
    masked = conceal(text)
    assert "[key]" in masked
    assert "Ab3dEf6h" not in masked
    assert "IjKl" not in masked


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_no_part_of_a_line_shows_a_key(form: logging.Formatter) -> None:
    record = _failed(f"failed with {KEY}", ValueError(f"401: {KEY}"))
    record.__dict__["header"] = f"Bearer {KEY}"
    line = form.format(record)
    assert KEY not in line
    assert line.count("[key]") == 3


def test_a_traceback_is_part_of_its_line() -> None:
    line = JsonFormatter().format(_failed("it failed", ValueError("why")))
    assert "\n" not in line
    told = orjson.loads(line)
    assert told["message"] == "it failed"
    assert told["error"].startswith("Traceback (most recent call last):\n")
    assert told["error"].endswith("ValueError: why")


def test_a_long_message_and_a_long_traceback_are_cut() -> None:
    told = orjson.loads(JsonFormatter().format(_failed("x" * 100_000, ValueError("y" * 100_000))))
    assert len(told["message"]) == len(told["error"]) == 8192


def test_text_for_people_leaves_out_what_says_nothing() -> None:
    line = TextFormatter().format(_record("x", code=None, provider="", tokens=0))
    assert line.endswith(": x tokens=0")


def test_text_for_people_is_one_line_whatever_a_client_sent() -> None:
    line = TextFormatter().format(_record("a\nb\r\x1b[31m\u2028", model="m\n2030-01-01 error"))
    assert line.splitlines() == [line]
    assert "\x1b" not in line
    assert line.startswith("2025-11-24T16:00:00.500+00:00 info    acme.part: a\\nb\\r")
    assert line.endswith(" model=m\\n2030-01-01 error")


def test_text_for_people_shows_a_traceback_below() -> None:
    lines = TextFormatter().format(_failed("it failed", ValueError("why"))).splitlines()
    assert lines[0].endswith("acme.part: it failed")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: why"


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    reading, writing = os.pipe()
    reader, writer = open(reading), open(writing, "w")  # noqa: SIM115  # closed below, in this order
    yield reader, writer
    reader.close()  # before the other end, which waits for a reader if there is one
    with suppress(BrokenPipeError):
        writer.close()


def _lines(stream: TextIO) -> Lines:
    lines = Lines(stream)
    lines.setFormatter(logging.Formatter("%(message)s"))
    return lines


def test_lines_come_out_in_order_and_all_of_them(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    lines = _lines(writer)
    for number in range(1000):
        lines.handle(_record("%d", number))
    lines.flush()
    assert [reader.readline() for _ in range(1000)] == [f"{n}\n" for n in range(1000)]
    lines.handle(_record("the last"))
    lines.close()
    assert reader.readline() == "the last\n"


def test_a_line_needs_no_flush(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    lines = _lines(writer)
    lines.handle(_record("alone"))
    assert reader.readline() == "alone\n"
    lines.close()


def test_what_is_said_after_the_end_is_written_at_once(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    lines = _lines(writer)
    lines.close()
    lines.handle(_record("late"))
    assert reader.readline() == "late\n"


def test_a_reader_that_stands_still_stops_nobody_and_is_told_what_it_missed(
    pipe: tuple[TextIO, TextIO],
) -> None:
    reader, writer = pipe
    lines = _lines(writer)
    lines.handle(_record("y" * 200_000))  # more than a pipe holds
    until = time.monotonic() + 20
    while lines._lines:
        assert time.monotonic() < until, "it is not even tried to be written"
        time.sleep(0.01)
    line = "x" * 1023
    for _ in range(3 * 4096):  # 12 MB, of which 4 may wait
        lines.handle(_record(line))
    assert len(reader.readline()) == 200_001
    assert [reader.readline() for _ in range(4096)] == [f"{line}\n"] * 4096
    assert reader.readline() == "8192 lines were dropped: nobody read standard error\n"
    lines.handle(_record("again"))
    assert reader.readline() == "again\n"
    lines.close()


def test_a_stream_that_is_gone_fails_nobody(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    reader.close()
    lines = _lines(writer)
    lines.handle(_record("unheard"))
    lines.close()


@pytest.fixture
def _restored() -> Iterator[None]:
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "openai", "anthropic", "asyncio")
    names += ("httpx2", "httpcore2", "sse_starlette", "aiohttp")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    root = logging.getLogger().handlers[:]
    yield
    for handler in logging.getLogger().handlers:
        if handler not in root:
            handler.close()
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_sdks_never_write_what_they_send(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level, "json")
    for name in (
        "openai",
        "openai._base_client",
        "anthropic",
        "httpcore2.http11",
        "sse_starlette.sse",
    ):
        logging.getLogger(name).debug("the prompt")
    logging.getLogger("gateway.anything").error("ours")
    logs.flush()
    lines = capsys.readouterr().err.splitlines()
    assert [orjson.loads(line)["message"] for line in lines] == ["ours"]


@pytest.mark.usefixtures("_restored")
def test_lines_of_the_server_look_like_ours(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logging.getLogger("uvicorn.error").warning("odd")
    logs.flush()
    line = orjson.loads(capsys.readouterr().err)
    assert (line["logger"], line["message"]) == ("uvicorn.error", "odd")
