"""Rows of tools, up to what a client sees of them."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import httpx2
import pytest

from gateway.engine.tools import ToolContext
from gateway.engine.tools.tool import Tool
from gateway.events import Json
from gateway.server import toolbox
from gateway.server.settings import Settings, SettingsError
from tests.servers.gateway import Gateway
from tests.servers.scripted import Exchange, answer, scripted

EXAMPLES = Path(__file__).parents[3] / "examples"


def settings(folder: Path, tools: str) -> Settings:
    file = folder / "sluice.yaml"
    file.write_text(f"tools:\n  find: {tools}\n")
    return Settings.load({"SLUICE_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{ type: python }", "call: expected module:function, like 'my_tools:find_order'"),
        ("{ type: python, call: 3 }", "call: expected module:function"),
        ("{ type: python, call: nowhere }", "expected module:attribute, got 'nowhere'"),
        ("{ type: python, call: 'no_module:f' }", "there is no module 'no_module' in the"),
        ("{ type: python, call: 'json:nothing' }", "has no attribute 'nothing'"),
        ("{ type: python, call: 'json:__doc__' }", "call: 'json:__doc__' is no function"),
        ("{ type: python, call: 'json:JSONEncoder' }", "call: 'json:JSONEncoder' is no function"),
        ("{ type: python, call: 'json:dumps' }", "call: 'json:dumps': its parameter"),
        ("{ type: pyton }", "type: no such type of tool; did you mean 'python'?"),
    ],
)
def test_a_wrong_row_stops_the_start_with_one_line(row: str, message: str, tmp_path: Path) -> None:
    found = settings(tmp_path, row)
    with pytest.raises(SettingsError) as wrong:
        toolbox.make(found)
    assert message in str(wrong.value)
    assert str(wrong.value).startswith(f"{tmp_path}/sluice.yaml: tools.find: ")
    assert "\n" not in str(wrong.value)


class Tick:
    description = "Ticks."
    parameters: ClassVar[Json] = {}
    timeout = 1.0

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        return "tick"


class Clock:
    """A box whose tools are there or not."""

    name = "clock"

    def __init__(self) -> None:
        self.there: list[Tool] = []

    def tools(self) -> Sequence[Tool]:
        return self.there

    def status(self) -> Mapping[str, object]:
        return {"state": "up"}

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...


def test_a_model_may_have_one_tool_of_a_box(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    right = toolbox.single("clock_tick", {"clock": clock})
    wrong = toolbox.single("clock_tock", {"clock": clock})
    assert toolbox.single("clocktick", {"clock": clock}) is None
    assert right is not None
    assert wrong is not None
    assert right.tools() == wrong.tools() == []
    assert caplog.text == ""
    clock.there = [Tick("clock_tick"), Tick("clock_chime")]
    assert [tool.name for tool in right.tools()] == ["clock_tick"]
    assert wrong.tools() == wrong.tools() == []
    assert caplog.text.count("a model is to have clock_tock, which clock does not offer") == 1


def test_without_the_extra_a_row_of_a_server_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "gateway.engine.tools.mcp", raising=False)
    found = settings(tmp_path, "{ type: mcp, command: a }")
    with pytest.raises(SettingsError, match=r"pip install 'sluice-gateway\[mcp\]'"):
        toolbox.make(found)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    folder = tmp_path_factory.mktemp("shop")
    shutil.copy(EXAMPLES / "python-tool" / "my_tools.py", folder)
    with Gateway(folder, (EXAMPLES / "python-tool" / "sluice.yaml").read_text()) as running:
        yield running


def ask(client: httpx2.Client, text: str, model: str = "shop") -> list[dict[str, object]]:
    """The notifications of an answer, which has to be whole."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}
    told = []
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    for line in lines:
        if line.startswith("{") and (found := json.loads(line).get("tool_notification")):
            told.append(found)
    return told


def test_the_example_of_a_python_tool_knows_its_customer(shop: Gateway) -> None:
    with shop.client(shop.key("ada@example.com")) as ada:
        told = ask(ada, "find order A-1")
    [result] = [note for note in told if note["tool"] == "find_order" and "result" in note]
    assert result["status"] == "completed"
    assert json.loads(str(result["result"]))["customer"] == "ada@example.com"
    progress = [note["progress"] for note in told if note["status"] == "progress"]
    assert progress == [1, 2, 3]
    with shop.client(shop.key("bob@example.com")) as bob:
        told = ask(bob, "find order A-1")
    [result] = [note for note in told if note["tool"] == "find_order" and "result" in note]
    assert (result["status"], result["result"]) == ("failed", "The customer has no order 'A-1'.")


async def test_a_row_of_an_http_tool_asks_the_service_and_keeps_its_secret(tmp_path: Path) -> None:
    async def serve(exchange: Exchange) -> None:
        said = {"path": exchange.path, "for": exchange.headers["x-customer"], "status": "sent"}
        said["token"] = exchange.headers["authorization"]
        await exchange.send(answer(200, json.dumps(said).encode()))

    def run(url: str) -> tuple[list[dict[str, object]], str]:
        place = url.removeprefix("http://")
        config = f"""
providers: {{ demo: {{ type: demo, tools: [find_order] }} }}
tools:
  find_order:
    type: http
    description: Finds an order by its number.
    url: "{url}/orders/{{number}}"
    parameters: {{ properties: {{ number: {{ type: string }} }}, required: [number] }}
    headers: {{ Authorization: "Bearer ${{SHOP_TOKEN}}" }}
    context: {{ X-Customer: email }}
    allow: ["{place}"]
"""
        with Gateway(tmp_path, config, {"SHOP_TOKEN": "shop-token-0815"}) as gateway:
            with gateway.client(gateway.key("ada@example.com")) as client:
                told = ask(client, 'find order "A-1"', "demo/demo-fast")
            return told, "".join(gateway.log)

    async with scripted(serve) as upstream:
        told, log = await asyncio.to_thread(run, upstream.url)
        [exchange] = upstream.exchanges
    assert exchange.headers["authorization"] == "Bearer shop-token-0815"
    assert [note["status"] for note in told] == ["started", "completed"]
    said = json.loads(str(told[1]["result"]))
    assert said == {
        "path": "/orders/A-1",
        "for": "ada@example.com",
        "status": "sent",
        "token": "[secret]",
    }
    assert "shop-token" not in json.dumps(told) + log


@pytest.mark.mcp
def test_the_example_of_an_mcp_server_is_asked_under_its_name(tmp_path: Path) -> None:
    folder = EXAMPLES / "mcp-server"
    shutil.copy(folder / "order_server.py", tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    config = (folder / "sluice.yaml").read_text()
    with (
        Gateway(tmp_path, config, {"PATH": path}) as gateway,
        gateway.client(gateway.key()) as client,
    ):
        deadline = time.monotonic() + 60
        while client.get("/readyz").json()["servers"]["orders"]["state"] != "up":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        told = ask(client, 'find order "A-1" and count orders')
    ends = {note["tool"]: note for note in told if "result" in note}
    assert ends["orders_find_order"]["result"] == "Order A-1 is sent."
    assert ends["orders_count_orders"]["server"] == "orders"
    assert [note["message"] for note in told if note["status"] == "progress"] == [
        "counted A-1",
        "counted A-2",
        "counted B-1",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "wiki: { type: mcp, command: a }\n  wiki_search: { type: calculator }",
            "tools.wiki_search: names with wiki_ are those of the tools of 'wiki'",
        ),
        ("wiki: { type: mcp }", "tools.wiki: expected command (a program to start) or url"),
        ("wiki: { type: mcp, url: x }", "tools.wiki: url: expected one like"),
    ],
)
def test_a_wrong_row_of_a_server_stops_the_start(rows: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "sluice.yaml"
    file.write_text(f"tools:\n  {rows}\n")
    found = Settings.load({"SLUICE_CONFIG": str(file)})
    with pytest.raises(SettingsError) as wrong:
        toolbox.make(found)
    assert message in str(wrong.value)


def test_the_function_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    page = (EXAMPLES.parent / "docs" / "tools.md").read_text()
    program = page[page.index("# my_tools.py") :].partition("```")[0]
    (tmp_path / "my_tools.py").write_text(program)
    config = """
providers: { demo: { type: demo, tools: [find_order] } }
tools: { find_order: { type: python, call: "my_tools:find_order" } }
"""
    with (
        Gateway(tmp_path, config) as gateway,
        gateway.client(gateway.key("ada@example.com")) as client,
    ):
        told = ask(client, "find order A-1", "demo/demo-fast")
    assert json.loads(str(told[-1]["result"])) == {"number": "A-1", "status": "sent"}
