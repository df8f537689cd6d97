"""Servers from PyPI and npm, as a user names them in `sluice.yaml`. `make test-mcp` installs them."""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from gateway.engine.tools import ToolContext, ToolFailed
from gateway.engine.tools.mcp import McpServer
from gateway.engine.tools.pins import Pins
from tests.servers.gateway import Gateway

pytestmark = pytest.mark.mcp

INSTALLED = Path(__file__).parents[2] / ".envs" / "mcp"
TIME = INSTALLED / "bin" / "mcp-server-time"
EVERYTHING = INSTALLED / "node_modules" / ".bin" / "mcp-server-everything"
CONTEXT = ToolContext("request", "call", "ada@example.com", lambda *_: None)

CONFIG = f"""
providers:
  demo: {{ type: demo, models: [demo-fast], tools: [clock] }}
tools:
  clock: {{ type: mcp, command: "{TIME}", args: [--local-timezone, Europe/Oslo] }}
  every:
    type: mcp
    command: "{EVERYTHING}"
    only: [trigger-long-running-operation, get-env]
    env: {{ EVERY_TOKEN: "every-token-0815" }}
models:
  slow: {{ targets: [demo/demo-fast], tools: [every] }}
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    assert TIME.exists() and EVERYTHING.exists(), "`make test-mcp` installs the servers"  # noqa: PT018


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("gateway"), CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Generator[httpx2.Client, None, None]:
    with gateway.client(gateway.key()) as client:
        # The gateway starts without those that are slow.
        deadline = time.monotonic() + 60
        while {server["state"] for server in states(client).values()} != {"up"}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield client


def states(client: httpx2.Client) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = client.get("/readyz").json()["servers"]
    return found


def ask(client: httpx2.Client, text: str, model: str) -> list[dict[str, object]]:
    """The notifications of an answer, which has to be whole."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines if line.startswith("{")]
    return [chunk["tool_notification"] for chunk in chunks if "tool_notification" in chunk]


def test_a_server_from_pypi_answers_and_is_named(client: httpx2.Client) -> None:
    told = ask(client, "get the current time in Japan", "demo-fast")
    [result] = [
        note for note in told if note["tool"] == "clock_get_current_time" and "result" in note
    ]
    assert (result["status"], result["server"]) == ("completed", "clock")
    assert json.loads(str(result["result"]))["datetime"].endswith("+09:00")


def test_a_server_from_npm_reports_its_progress(client: httpx2.Client) -> None:
    told = ask(client, "trigger long running operation, duration 1, steps 4", "slow")
    told = [note for note in told if str(note["tool"]).startswith("every_trigger")]
    assert [note["status"] for note in told] == ["started", *["progress"] * 4, "completed"]
    assert [note["progress"] for note in told[1:-1]] == [1, 2, 3, 4]
    assert {note["server"] for note in told} == {"every"}
    assert [note["seq"] for note in told] == sorted(int(str(note["seq"])) for note in told)


def test_a_server_keeps_its_secret(client: httpx2.Client, gateway: Gateway) -> None:
    told = ask(client, "get env", "slow")
    [result] = [note for note in told if note["tool"] == "every_get-env" and "result" in note]
    assert json.loads(str(result["result"]))["EVERY_TOKEN"] == "[secret]"
    assert "every-token-0815" not in json.dumps(told) + "".join(gateway.log)


def test_readiness_says_that_they_are_up(client: httpx2.Client) -> None:
    assert states(client) == {
        "clock": {"state": "up", "tools": 2},
        "every": {"state": "up", "tools": 2},
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def everything_over_http(port: int) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    process = await asyncio.create_subprocess_exec(
        EVERYTHING,
        "streamableHttp",
        env={**os.environ, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 # another task's state
            await asyncio.sleep(0.02)


async def test_a_server_over_http_answers_dies_and_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    row = {
        "url": f"http://127.0.0.1:{port}/mcp?token=query-secret-1",
        "headers": {"Authorization": "Bearer header-secret-1"},
        "only": ["echo", "trigger-long-running-operation"],
    }
    server = McpServer("every", row, Pins(tmp_path / "accepted.json"))
    told: list[tuple[object, ...]] = []
    context = replace(CONTEXT, report=lambda *report: told.append(report))
    try:
        async with everything_over_http(port) as process, asyncio.timeout(60):
            await server.start()
            echo, operate = server.tools()
            assert await echo.run({"message": "hei"}, context) == "Echo: hei"
            said = await operate.run({"duration": 0.4, "steps": 2}, context)
            assert said.startswith("Long running operation completed.")
            assert [report[1:] for report in told] == [(1, 2), (2, 2)]
            calling = asyncio.create_task(operate.run({"duration": 60, "steps": 600}, context))
            await until(lambda: len(told) >= 4)
            began = time.monotonic()
            process.kill()
            with pytest.raises(ToolFailed, match=r"went away before it answered|cannot be read"):
                await calling
            assert time.monotonic() - began < 15
        await until(lambda: server.status()["state"] == "down")
        async with everything_over_http(port), asyncio.timeout(60):
            await until(lambda: server.status()["state"] == "up")
            assert await server.tools()[0].run({"message": "again"}, context) == "Echo: again"
    finally:
        await server.aclose()
    assert "the MCP server every is down" in caplog.text
    assert "secret-1" not in caplog.text


async def test_a_cancelled_call_leaves_a_server_over_http_in_use(tmp_path: Path) -> None:
    port = free_port()
    row = {"url": f"http://127.0.0.1:{port}/mcp"}
    server = McpServer("every", row, Pins(tmp_path / "accepted.json"))
    try:
        async with everything_over_http(port), asyncio.timeout(60):
            await server.start()
            tools = {tool.name: tool for tool in server.tools()}
            operate = tools["every_trigger-long-running-operation"]
            calling = asyncio.create_task(operate.run({"duration": 60, "steps": 600}, CONTEXT))
            await asyncio.sleep(0.3)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            assert await tools["every_echo"].run({"message": "hei"}, CONTEXT) == "Echo: hei"
    finally:
        await server.aclose()
