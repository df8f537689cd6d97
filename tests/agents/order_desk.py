"""The agents of `examples/agents` do the same on every framework: what they say, and how it is tried."""

import json
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai

from tests.servers.gateway import Gateway

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"
QUESTION = "Where is order 1007?"
FOUND = "Order 1007 left Bergen on Tuesday and arrives on Friday."
ANSWER = f"Let me look. {FOUND}"


@contextmanager
def serving(
    folder: Path, config: str, modules: Mapping[str, str] | None = None
) -> Generator[Gateway, None, None]:
    """A gateway with these settings, and these modules beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (modules or {}).items():
        (folder / name).write_text(text)
    with Gateway(folder, config) as gateway:
        yield gateway


@contextmanager
def example(name: str, folder: Path) -> Generator[Gateway, None, None]:
    """The example's own files, in a folder that its gateway may write to."""
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", "data"))
    with serving(folder, (folder / "sluice.yaml").read_text()) as gateway:
        yield gateway


@dataclass
class Heard:
    """What the SDK of OpenAI made of a stream."""

    request_id: str = ""
    text: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)
    result: object = None
    reason: str | None = None
    tokens: tuple[int, int] | None = None


def ask(client: openai.OpenAI, question: str = QUESTION, model: str = "desk") -> Heard:
    heard = Heard()
    with client.chat.completions.with_streaming_response.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
    ) as response:
        heard.request_id = response.headers["x-request-id"]
        for chunk in response.parse():
            if notification := (chunk.model_extra or {}).get("tool_notification"):
                heard.told.append((notification["tool"], notification["status"]))
                heard.result = notification.get("result", heard.result)
            if chunk.usage is not None:
                heard.tokens = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            for choice in chunk.choices:
                heard.text += choice.delta.content or ""
                heard.reason = choice.finish_reason or heard.reason
    return heard


def try_the_desk(gateway: Gateway, *, reported: bool = True) -> None:
    """Streamed and whole, with the account of both. `reported`: whether the engine tells usage."""
    key = gateway.key()
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["desk"]
        heard = ask(client)
        assert heard.text == ANSWER
        assert heard.told == [("find_order", "started"), ("find_order", "completed")]
        assert heard.result == FOUND
        assert heard.reason == "stop"
        assert heard.tokens is not None
        whole = client.chat.completions.create(
            model="desk", messages=[{"role": "user", "content": QUESTION}]
        )
        assert whole.choices[0].message.content == ANSWER
        assert ask(client, "Hello").text == "Which order, please?"
        row = row_of(gateway, heard.request_id)
        assert (row["status"], row["tool_calls"]) == ("ok", 1)
        assert (row["tokens_in"], row["tokens_out"]) == heard.tokens
        assert row["counted"] == ("reported" if reported else "estimated")


def row_of(gateway: Gateway, request_id: str) -> dict[str, object]:
    """The settled row of a request."""
    for _ in range(100):
        [row] = [row for row in gateway.rows() if row["request_id"] == request_id]
        if row["status"] != "open":
            return row
        time.sleep(0.05)
    raise AssertionError(f"the row is still open: {row}")


def frames(gateway: Gateway, model: str) -> list[tuple[str, str]]:
    """Names and data of a stream's frames, as they are on the wire."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    with gateway.client(gateway.key()) as http:
        answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found = []
    for frame in answer.text.split("\n\n"):
        lines = [line.partition(": ") for line in frame.splitlines() if line and line[0] != ":"]
        fields = {name: value for name, _, value in lines}
        if "data" in fields:
            found.append((fields.get("event", ""), fields["data"]))
    return found


def check_that_one_error_ends(told: list[tuple[str, str]], code: str, statuses: list[str]) -> None:
    """`statuses`: what became of the tools, in order."""
    assert [name for name, _ in told].count("error") == 1
    name, data = told[-1]
    assert name == "error"
    assert json.loads(data)["error"]["code"] == code
    notified = [json.loads(data) for name, data in told if name == "tool_notification"]
    notifications = [notification["tool_notification"] for notification in notified]
    assert [item["status"] for item in notifications] == statuses
    ends = [item["id"] for item in notifications if item["status"] not in ("started", "progress")]
    assert len(ends) == len(set(ends))
    assert set(ends) == {item["id"] for item in notifications}


def check_that_leaving_stops(gateway: Gateway, model: str, sign: Path) -> None:
    """`sign`: the file that a tool makes when it is cancelled."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    with (
        gateway.client(gateway.key()) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        request_id = response.headers["x-request-id"]
        for line in response.iter_lines():
            if line == "event: tool_notification":
                time.sleep(0.5)  # some are told of before they run
                assert not sign.exists()
                break
        else:
            raise AssertionError("no tool was told of")
    left = time.monotonic()
    while not sign.exists():
        assert time.monotonic() - left < 5, "the tool still runs"
        time.sleep(0.02)
    assert row_of(gateway, request_id)["status"] == "cancelled"
