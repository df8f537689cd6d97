"""Engines by their import strings: what is taken, what is refused, and how it is served."""

import json
import re
import textwrap
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.server.assembly import assemble
from gateway.server.settings import Settings, SettingsError
from tests.scripted_model import until
from tests.servers.gateway import Gateway

ENGINE = '''
import asyncio
from pathlib import Path

from gateway.errors import RateLimited
from gateway.events import *


class Clerk:
    """Says back what it is asked, with the help of a tool."""

    async def stream(self, call, request):
        question = request.messages[-1]["content"]
        if question == "refuse":
            raise RateLimited("Not now.", retry_after=7)
        if question == "fail":
            yield (Delta("Well"), ToolCallStart("c1", "look", "server"), ToolCallReady("c1", "{}"))
            raise KeyError("secret of the clerk")
        yield (ToolCallStart("c1", "look", "server"), ToolCallReady("c1", '{"up": 1}'))
        yield (ToolCallResult("c1", "ok", "found"),)
        try:
            for word in question.split():
                yield (Delta(word + " "),)
                await asyncio.sleep(60 if word == "wait" else 0)
            yield (Complete(usage=Usage(11, 7)),)
        finally:
            if "wait" in question:
                Path(__file__).with_name("closed").touch()
            if "linger" in question:
                await asyncio.sleep(4)
                Path(__file__).with_name("lingered").touch()

    async def aclose(self):
        Path(__file__).with_name("let go").touch()


clerk = Clerk()
number = 3

class Mute:
    async def stream(self, call, request):
        return None

async def later():
    return Clerk()

def broken():
    return {}["key"]

def engineless():
    return "no engine"
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    (folder / "clerks.py").write_text(ENGINE)
    (folder / "clerk_faults.py").write_text("import os\n\nKEY = os.environ['CLERK_KEY_UNSET']\n")
    (folder / "clerk_paid.py").write_text(f"import os\nos.environ['CLERK_KEY']\n{ENGINE}")
    (folder / "clerk_syntax.py").write_text("agent = = 3\n")
    (folder / "clerk_llama.py").write_text(_import_of("llama_index"))
    (folder / "clerk_pydantic.py").write_text(_import_of("pydantic_ai"))
    return folder


def _import_of(package: str) -> str:
    """As where the package is not installed, whether it is or not."""
    return f"raise ModuleNotFoundError(\"No module named '{package}'\", name={package!r})\n"


@pytest.fixture
def load(folder: Path, tmp_path: Path) -> Callable[[str], Settings]:
    def load(rows: str) -> Settings:
        file = folder / "sluice.yaml"
        file.write_text(f"models: {rows}")
        return Settings.load({"SLUICE_CONFIG": str(file), "SLUICE_DATA_DIR": str(tmp_path)})

    return load


@pytest.mark.parametrize("spec", ["clerks:clerk", "clerks:Clerk"])
def test_an_engine_or_what_makes_one_is_taken(load: Callable[[str], Settings], spec: str) -> None:
    router = assemble(load(f"{{clerk: {{engine: '{spec}', name: The clerk}}}}")).router
    route = router.resolve("clerk", "default")
    assert type(route.engine).__name__ == "Clerk"
    assert route.title == "The clerk"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("clerks", "expected module:attribute, got 'clerks'", id="no attribute"),
        pytest.param(
            "no_clerks:clerk",
            "there is no module 'no_clerks' in the environment or beside sluice.yaml",
            id="no module",
        ),
        pytest.param(
            "clerks:clark",
            "'clerks:clark' cannot be loaded: module 'clerks' has no attribute 'clark'",
            id="no such attribute",
        ),
        pytest.param("clerks:number", "'clerks:number' is an int; expected an engine", id="number"),
        pytest.param(
            "clerks:engineless", "'clerks:engineless' is a str; expected an engine", id="made wrong"
        ),
        pytest.param("clerks:Mute", "'clerks:Mute': its method stream yields nothing", id="mute"),
        pytest.param("clerks:later", "'clerks:later' is async; expected a plain", id="async"),
        pytest.param(
            "clerks:broken",
            r"'clerks:broken' cannot be called: KeyError: 'key' \(.*clerks.py:48\)",
            id="fault of a factory",
        ),
        pytest.param(
            "clerk_faults:agent",
            r"'clerk_faults:agent' cannot be loaded: KeyError: 'CLERK_KEY_UNSET' "
            r"\(.*clerk_faults.py:3\)",
            id="fault of a module",
        ),
        pytest.param(
            "clerk_syntax:agent",
            r"'clerk_syntax:agent' cannot be loaded: SyntaxError: .* \(clerk_syntax.py, line 1\)$",
            id="no Python",
        ),
        pytest.param(
            "clerk_llama:agent",
            r"'clerk_llama:agent' needs llama_index, which is not installed: "
            r"pip install 'sluice-gateway\[llamaindex\]'",
            id="without LlamaIndex",
        ),
        pytest.param(
            "clerk_pydantic:agent",
            r"'clerk_pydantic:agent' needs pydantic_ai, which is not installed: "
            r"pip install 'sluice-gateway\[pydantic-ai\]'",
            id="without PydanticAI",
        ),
    ],
)
def test_what_cannot_be_an_engine_is_told_in_one_line(
    load: Callable[[str], Settings], spec: str, message: str
) -> None:
    settings = load(f"{{clerk: {{engine: '{spec}'}}}}")
    with pytest.raises(SettingsError) as caught:
        assemble(settings)
    line = str(caught.value)
    assert re.search(f"models.clerk.engine: {message}", line), line
    assert "\n" not in line


def _path(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Generator[Gateway, None, None]:
    config = textwrap.dedent("""
        models:
          clerk: {engine: "clerks:clerk", name: The clerk, tiers: [default]}
          inner: {engine: "clerks:Clerk", tiers: [staff]}
        tiers: {staff: {}}
        prices: {clerk: {input: 1.0, output: 2.0}}
    """)
    with Gateway(folder / "served", config, _path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.key()


@pytest.fixture
def client(gateway: Gateway, key: str) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


def _question(text: str) -> list[openai.types.chat.ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": text}]


def test_an_engine_is_listed_for_those_who_may_use_it(client: openai.OpenAI) -> None:
    names = {model.id: model for model in client.models.list()}
    assert names["clerk"].to_dict()["name"] == "The clerk"
    assert "inner" not in names


def test_an_engine_streams_to_the_sdk(gateway: Gateway, client: openai.OpenAI) -> None:
    text, told, usage = "", [], None
    for chunk in client.chat.completions.create(
        model="clerk",
        messages=_question("Hello there"),
        stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage or usage
        if notification := (chunk.model_extra or {}).get("tool_notification"):
            told.append((notification["tool"], notification["status"]))
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == "Hello there "
    assert told == [("look", "started"), ("look", "completed")]
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (11, 7)
    row = gateway.rows()[-1]
    assert (row["model"], row["provider"], row["status"]) == ("clerk", "engine", "ok")
    assert (row["tokens_in"], row["tokens_out"], row["tool_calls"]) == (11, 7, 1)
    assert row["cost_usd"] == pytest.approx(25e-6)


def test_an_engine_answers_in_one_piece(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="clerk", messages=_question("Hello there"))
    assert completion.choices[0].message.content == "Hello there "
    assert completion.usage is not None
    assert completion.usage.total_tokens == 18


def test_an_error_of_an_engine_keeps_its_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="clerk", messages=_question("refuse"), stream=True)
    assert caught.value.response.headers["retry-after"] == "7"


async def test_a_fault_of_an_engine_ends_the_stream_and_is_not_shown(
    gateway: Gateway, key: str
) -> None:
    body = {"model": "clerk", "stream": True, "messages": _question("fail")}
    with gateway.client(key) as http:
        text = http.post("/v1/chat/completions", json=body).text
    assert text.count("event: error") == 1
    assert "secret of the clerk" not in text
    assert "[DONE]" not in text
    told = re.findall(r"^event: tool_notification\ndata: (.*)$", text, re.MULTILINE)
    assert [json.loads(line)["status"] for line in told] == ["started", "cancelled"]
    await until(lambda: any("secret of the clerk" in line for line in gateway.log))


def test_whoever_leaves_stops_the_engine(
    gateway: Gateway, client: openai.OpenAI, folder: Path
) -> None:
    with client.chat.completions.create(
        model="clerk", messages=_question("please wait here"), stream=True
    ) as stream:
        assert any(choice.delta.content for chunk in stream for choice in chunk.choices)
    deadline = time.monotonic() + 10
    while not (folder / "closed").exists() or gateway.rows()[-1]["status"] != "cancelled":
        assert time.monotonic() < deadline, "the engine still runs"
        time.sleep(0.01)


async def test_an_engine_that_takes_long_to_close_keeps_no_answer_open(
    gateway: Gateway, key: str, folder: Path
) -> None:
    body = {"model": "clerk", "stream": True, "messages": _question("linger")}
    with gateway.client(key) as http:
        answer = http.post("/v1/chat/completions", json=body)

        def settled() -> dict[str, Any]:
            row: dict[str, Any] = http.get(f"/v1/usage/{answer.headers['x-request-id']}").json()
            return row

        await until(lambda: settled()["status"] == "ok")
        row = settled()
        assert not (folder / "lingered").exists()
        await until((folder / "lingered").exists)
        assert settled() == row
    assert answer.text.endswith("data: [DONE]\n\n")
    assert row["duration_ms"] < 3000


def test_an_engine_finds_in_its_environment_what_the_env_file_says(folder: Path) -> None:
    inner = folder / "paid"
    inner.mkdir()
    (inner / ".env").write_text("CLERK_KEY=sk-clerk\n")
    config = 'models: {clerk: {engine: "clerk_paid:clerk"}}'
    with Gateway(inner, config, _path(folder)) as gateway, gateway.client(gateway.key()) as http:
        assert "clerk" in http.get("/v1/models").text


def test_an_engine_lets_go_of_what_it_holds_when_the_gateway_stops(folder: Path) -> None:
    with Gateway(folder / "stopped", 'models: {clerk: {engine: "clerks:clerk"}}', _path(folder)):
        (folder / "let go").unlink(missing_ok=True)  # of the gateways before
    assert (folder / "let go").exists()
