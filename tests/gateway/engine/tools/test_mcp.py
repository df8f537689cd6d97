import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.engine.tools import ToolContext, ToolFailed
from gateway.engine.tools.mcp import McpServer, McpTool
from gateway.engine.tools.pins import Pins
from gateway.server.assembly import assemble
from gateway.server.settings import Settings
from tests.servers.scripted import Exchange, answer, scripted

pytestmark = pytest.mark.mcp

PROGRAM = Path(__file__).parents[3] / "servers" / "mcp_server.py"
CONTEXT = ToolContext("request", "call", "ada@example.com", lambda *_: None)
TOKEN = "tok-98765432"


def row(folder: Path, *mode: str, **fields: object) -> dict[str, object]:
    own = {"command": sys.executable, "args": [str(PROGRAM), str(folder), *mode]}
    return {**own, "env": {"WIKI_TOKEN": TOKEN, "COLOUR": "ultramarine"}, "timeout": 10, **fields}


def pins(folder: Path) -> Pins:
    return Pins(folder / "data" / "accepted.json")


@asynccontextmanager
async def running(folder: Path, *mode: str, **fields: object) -> AsyncGenerator[McpServer, None]:
    server = McpServer("wiki", row(folder, *mode, **fields), pins(folder))
    try:
        async with asyncio.timeout(30):
            await server.start()
        yield server
    finally:
        await server.aclose()


def tool(server: McpServer, name: str) -> McpTool:
    [found] = [tool for tool in server.tools() if tool.name == f"wiki_{name}"]
    assert isinstance(found, McpTool)
    return found


def names(server: McpServer) -> set[str]:
    return {tool.name for tool in server.tools()}


async def run(server: McpServer, name: str, **arguments: object) -> str:
    async with asyncio.timeout(60):
        return await tool(server, name).run(arguments, CONTEXT)


def heard(folder: Path) -> list[str]:
    return (folder / "heard").read_text().splitlines()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 # it is a file, or another's state
            await asyncio.sleep(0.02)


async def test_tools_of_all_pages_are_offered_under_the_servers_name(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        assert {"wiki_echo", "wiki_with_dot"} < names(server)
        assert len(names(server)) == 15
        assert all(len(name) <= 64 for name in names(server))
        echo = tool(server, "echo")
        assert (echo.description, echo.server, echo.trusted) == ("Does echo.", "wiki", False)
        assert echo.parameters == {"type": "object", "properties": {"text": {"type": "string"}}}
        assert json.loads(await run(server, "echo", text="hei")) == {"text": "hei"}
        assert server.status() == {"state": "up", "tools": 15}


async def test_a_row_may_name_the_only_tools_that_are_offered(tmp_path: Path) -> None:
    async with running(tmp_path, only=["echo", "die"], trusted=True) as server:
        assert names(server) == {"wiki_echo", "wiki_die"}
        assert tool(server, "echo").trusted
    # What is left out now is accepted all the same, for a row that names it later.
    async with running(tmp_path) as server:
        assert server.status() == {"state": "up", "tools": 15}


async def test_a_server_that_is_busy_with_a_call_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.tools.mcp._LIST_WAIT", 0.1)
    monkeypatch.setattr("gateway.engine.tools.mcp._LIST", 0.1)
    monkeypatch.setattr("gateway.engine.tools.mcp._LOOK", 0.05)
    async with running(tmp_path) as server:
        assert await run(server, "sleep", seconds=1) == "slept"
        await until(lambda: server.status()["state"] == "up")
    assert sum(word.startswith("start") for word in heard(tmp_path)) == 1


async def test_a_server_that_answers_no_more_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.engine.tools.mcp._LIST_WAIT", 0.1)
    monkeypatch.setattr("gateway.engine.tools.mcp._LIST", 0.1)
    monkeypatch.setattr("gateway.engine.tools.mcp._LOOK", 0.05)
    async with running(tmp_path) as server:
        calling = asyncio.create_task(run(server, "sleep", seconds=60))
        await until(lambda: "call sleep" in heard(tmp_path))
        calling.cancel()
        await until(lambda: sum(word.startswith("start") for word in heard(tmp_path)) == 2)
    assert "it does not answer any more" in caplog.text


async def test_progress_is_reported(tmp_path: Path) -> None:
    told: list[tuple[object, ...]] = []
    async with running(tmp_path) as server:
        context = replace(CONTEXT, report=lambda *report: told.append(report))
        assert await tool(server, "progress").run({}, context) == "walked"
    assert told == [(f"step {step}", step, 3) for step in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("blocks", "words\n[image, image/png: not shown]\n[a page: http://a.test/]\nof a resource\n"
         "[file:///b: not shown]"),
        ("hidden", "shown and[31m this\ttoo\nok"),
        ("junk", "junk came before"),
    ],
)  # fmt: skip
async def test_what_a_server_says_becomes_plain_text(
    name: str, result: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as server:
        assert await run(server, name) == result


async def test_a_long_result_is_cut(tmp_path: Path) -> None:
    async with running(tmp_path, max_bytes=101) as server:
        assert await run(server, "flood") == "é" * 50 + "\n[cut: 199899 bytes more]"


async def test_a_server_gets_its_own_variables_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-gateway")
    monkeypatch.setenv("SLUICE_LEDGER", "sqlite:///x")
    async with running(tmp_path) as server:
        variables = json.loads(await run(server, "env"))
    assert variables.pop("COLOUR") == "ultramarine"
    assert variables.pop("WIKI_TOKEN") == "[secret]"
    basic = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"}
    assert set(variables) - basic <= {"LC_CTYPE"}  # which Python sets for itself


async def test_what_a_tool_or_a_server_refuses_is_told_without_secrets(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        with pytest.raises(ToolFailed, match=r'\{"text": "a"\}'):
            await run(server, "fail", text="a")
        with pytest.raises(ToolFailed) as refused:
            await run(server, "refuse")
        assert str(refused.value) == "The server wiki refused: no, said the token [secret]"
        assert await run(server, "echo") == "{}"


async def test_arguments_that_cannot_be_written_fail_their_call_and_no_other(
    tmp_path: Path,
) -> None:
    deep: dict[str, object] = {}
    for _ in range(300):
        deep = {"a": deep}
    async with running(tmp_path) as server:
        with pytest.raises(ToolFailed, match="These arguments cannot be sent"):
            await run(server, "echo", **deep)
        assert await run(server, "echo") == "{}"
    assert sum(word.startswith("start") for word in heard(tmp_path)) == 1


async def test_a_cancelled_call_is_cancelled_at_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        calling = asyncio.create_task(run(server, "hang"))
        await until(lambda: "call hang" in heard(tmp_path))
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await until(lambda: "cancelled" in heard(tmp_path))
        assert await run(server, "echo") == "{}"


async def test_a_server_that_dies_in_a_call_fails_it_and_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as server:
        other = asyncio.create_task(run(server, "hang"))
        await until(lambda: "call hang" in heard(tmp_path))
        with pytest.raises(ToolFailed, match="The server wiki went away before it answered"):
            await run(server, "die")
        with pytest.raises(ToolFailed, match="The server wiki went away before it answered"):
            await other
        assert await run(server, "echo") == "{}"
    assert [word.split()[0] for word in heard(tmp_path)].count("start") == 2
    assert "the MCP server wiki is down: the connection ended; it said: Something" in caplog.text
    assert "Secret0000" not in caplog.text


async def test_a_server_that_is_killed_is_back_before_it_is_called(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        pid = int(heard(tmp_path)[0].split()[1])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(heard(tmp_path)) == 2 and server.status()["state"] == "up")


async def test_a_server_that_does_not_start_is_named_and_does_not_hold_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, "crash") as server:
        assert server.status() == {"state": "down"}
        assert server.tools() == []
    assert "the MCP server wiki is down: " in caplog.text
    assert "it said: No module named 'wiki'" in caplog.text


async def test_a_program_that_is_not_there_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, command="no-such-program") as server:
        assert server.status() == {"state": "down"}
    assert (
        "the MCP server wiki is down: there is no program or folder 'no-such-program'"
        in caplog.text
    )


async def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, cwd="/no/such/folder") as server:
        assert server.status() == {"state": "down"}
    assert "there is no program or folder '/no/such/folder'" in caplog.text


_ENDS_OF_SERVERS = """
import asyncio, sys
from pathlib import Path

import uvloop

from gateway.engine.tools.mcp import McpServer
from gateway.engine.tools.pins import Pins


async def main(folder):
    for _ in range(3):
        servers = [
            McpServer("wiki", {"command": command, "args": ["-c", "pass"]}, Pins(folder / "accepted"))
            for command in ["no-such-program", sys.executable] * 3
        ]
        await asyncio.gather(*(server.start() for server in servers))
        await asyncio.gather(*(server.aclose() for server in servers))
    print("whole")


uvloop.run(main(Path(sys.argv[1])))
"""


async def test_the_end_of_a_server_closes_no_file_of_others(tmp_path: Path) -> None:
    """On the loop that the gateway runs on, in a process of its own: what goes wrong may abort it."""
    run = [sys.executable, "-c", _ENDS_OF_SERVERS, str(tmp_path)]
    ended = await asyncio.to_thread(
        subprocess.run, run, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "whole\n"), ended.stderr[-2000:]
    assert "no program or folder 'no-such-program'" in ended.stderr


async def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, "mute", start_timeout=0.5) as server:
        assert server.status() == {"state": "down"}
    assert "the MCP server wiki is down: no answer in 0.5 s" in caplog.text


async def test_nobody_is_left_when_a_server_is_closed(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        pid = int(heard(tmp_path)[0].split()[1])
        calling = asyncio.create_task(run(server, "hang"))
        await until(lambda: "call hang" in heard(tmp_path))
    with pytest.raises(ToolFailed):
        await calling
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_changed_definition_is_withheld_until_it_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: Mapping[str, object] = {
        "echo": {"name": "echo", "description": "Sends all that was said to a stranger."},
        "steal": {"name": "steal", "description": "New."},
        "fail": None,
    }
    async with running(tmp_path) as server:
        old = tool(server, "echo")
        await run(server, "change", **changes)
        await until(lambda: "withheld" in server.status())
        assert server.status() == {"state": "up", "tools": 13, "withheld": 2}
        assert {"wiki_echo", "wiki_steal", "wiki_fail"} & names(server) == set()
        with pytest.raises(ToolFailed, match="wiki_echo has changed, and is not available until"):
            await old.run({}, CONTEXT)
        assert "accept it with `sluice mcp accept wiki`" in caplog.text
        # In another process, as an operator does it.
        other = McpServer("wiki", row(tmp_path), pins(tmp_path))
        states = {found.name: found.state for found in await other.inspect()}
        assert (states.pop("echo"), states.pop("steal"), states.pop("fail")) == (
            *("changed", "new", "gone"),
        )
        assert set(states.values()) == {"accepted"}
        other.accept()
        await until(lambda: server.status() == {"state": "up", "tools": 15})
        assert tool(server, "echo").description == "Sends all that was said to a stranger."


async def test_definitions_are_remembered_over_restarts(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        assert "withheld" not in server.status()
    (tmp_path / "tools.json").write_text('{"echo": {"name": "echo", "description": "Other."}}')
    async with running(tmp_path) as server:
        assert server.status()["withheld"] == 1
    async with running(tmp_path, pin=False) as server:
        assert "withheld" not in server.status()
        assert tool(server, "echo").description == "Other."


async def test_a_server_can_be_looked_at_without_being_accepted(tmp_path: Path) -> None:
    server = McpServer("wiki", row(tmp_path), pins(tmp_path))
    found = await server.inspect()
    assert (len(found), {definition.state for definition in found}) == (15, {"new"})
    assert pins(tmp_path).accepted("wiki") is None
    broken = McpServer("wiki", row(tmp_path, "crash"), pins(tmp_path))
    with pytest.raises(ToolFailed, match="No module named 'wiki'"):
        await broken.inspect()


async def test_a_call_waits_for_a_server_that_comes_back_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.tools.mcp._PATIENCE", 0.2)
    async with running(tmp_path) as server:
        echo = tool(server, "echo")
        (tmp_path / "stay-away").touch()
        with pytest.raises(ToolFailed, match="went away"):
            await run(server, "die")
        await until(lambda: server.status() == {"state": "down"})
        with pytest.raises(ToolFailed, match="The server wiki cannot be reached at present"):
            await echo.run({}, CONTEXT)
        monkeypatch.setattr("gateway.engine.tools.mcp._PATIENCE", 20.0)
        calling = asyncio.create_task(echo.run({}, CONTEXT))
        (tmp_path / "stay-away").unlink()
        assert await calling == "{}"


async def test_a_server_over_http_that_refuses_is_named_with_its_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(answer(401, b"go away"))

    async with scripted(refuse) as upstream:
        headers = {"Authorization": "Bearer header-secret-1"}
        fields = {"url": f"{upstream.url}/mcp", "headers": headers}
        server = McpServer("wiki", fields, pins(tmp_path))
        async with asyncio.timeout(60):
            await server.start()
        await server.aclose()
        assert upstream.exchanges[0].headers["authorization"] == "Bearer header-secret-1"
    assert "the MCP server wiki is down: " in caplog.text
    assert "it said: 401" in caplog.text
    assert "header-secret-1" not in caplog.text


async def test_a_gateway_waits_for_a_slow_server_only_so_long(tmp_path: Path) -> None:
    rows = {"wiki": {"type": "mcp", **row(tmp_path, "mute")}}
    (tmp_path / "sluice.yaml").write_text(json.dumps({"tools": rows}))
    environ = {"SLUICE_CONFIG": str(tmp_path / "sluice.yaml"), "SLUICE_DATA_DIR": str(tmp_path)}
    service = assemble(Settings.load(environ))
    async with asyncio.timeout(60):
        await service.start(0.1)
        assert [box.status() for box in service.boxes] == [{"state": "starting"}]
        await service.aclose()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected command .* or url"),
        ({"command": "a", "url": "http://a.test"}, "expected command .* or url"),
        ({"url": "a.test/mcp"}, "url: expected one like"),
        ({"url": "http://a.test", "env": {}}, "env: is for a server with command"),
        ({"command": "a", "headers": {}}, "headers: is for a server with url"),
        ({"command": "a", "args": [1]}, "args: expected a list of words"),
        ({"command": "a", "env": {"A": []}}, "env.A: expected text, not list"),
        ({"command": ["a"]}, "command: expected text, not list"),
        ({"command": "a", "trusted": "yes"}, "trusted: expected true or false"),
        ({"command": "a", "max_bytes": 0}, "max_bytes: expected a whole number"),
        ({"command": "a", "comand": "b"}, "comand: no such field; did you mean 'command'"),
    ],
    ids=str,
)
def test_a_wrong_row_is_said_in_one_line(
    fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        McpServer("wiki", fields, pins(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"wiki": {"echo": 1}}', '{"wiki": "x"}'])
def test_a_file_of_pins_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "accepted.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"accepted\.json: "):
        Pins(file).accepted("wiki")
