"""A gateway with models of its own: real files, the real llama.cpp, and a process for each."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from adapters.providers.llamacpp_worker import Cancelled, Model, Speaker, Text
from tests.llamacpp.tiny import TEXT, write_model
from tests.servers.gateway import Gateway

HELLO = [{"role": "user", "content": "Hello"}]
PROMPT = 8
"""Tokens of it: three marks, and five letters."""
ANSWER = 12
PATIENCE = 30.0
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]

CONFIG = """
providers:
  local:
    type: llamacpp
    files: {{tiny: {folder}/tiny.gguf, endless: {folder}/endless.gguf}}
    n_ctx: 65536
    threads: 1
    queue: 1
  small:
    type: llamacpp
    files: {{short: {folder}/short.gguf, round: {folder}/round.gguf}}
    n_ctx: 512
    threads: 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("tiny", "short"):
        write_model(folder / f"{name}.gguf")
    for name in ("endless", "round"):
        write_model(folder / f"{name}.gguf", endless=True)
    return folder


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    with Gateway(folder / "gateway", CONFIG.format(folder=folder)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[httpx2.Client]:
    with gateway.client(gateway.key()) as client:
        yield client


def ask(client: httpx2.Client, model: str = "local/tiny", **options: object) -> httpx2.Response:
    body = {"model": model, "messages": HELLO, **options}
    return client.post("/v1/chat/completions", json=body, timeout=PATIENCE)


def text_of(response: httpx2.Response) -> object:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


class Stream:
    """An answer that is being read."""

    def __init__(self, client: httpx2.Client, model: str, **options: object) -> None:
        body = {"model": model, "messages": HELLO, "stream": True, **options}
        self._manager = client.stream("POST", "/v1/chat/completions", json=body, timeout=PATIENCE)

    def __enter__(self) -> "Stream":
        response = self._manager.__enter__()
        assert response.status_code == 200
        self._lines = response.iter_lines()
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.__exit__(None, None, None)

    def __iter__(self) -> Iterator[dict[str, object]]:
        for line in self._lines:
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))

    def begin(self) -> None:
        """Until there is text."""
        assert next(text for text in map(piece_of, self) if text)


def piece_of(chunk: dict[str, object]) -> str:
    match chunk:
        case {"choices": [{"delta": {"content": str(text)}}]}:
            return text
    return ""


def workers(pid: int, of: str = "") -> list[int]:
    """Processes of models that a process started."""
    listing = ["ps", "-axww", "-o", "pid=,ppid=,args="]
    shown = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in shown.splitlines()]
    return [
        int(row[0])
        for row in rows
        if int(row[1]) == pid and "llamacpp_worker" in row[2] and of in row[2]
    ]


def worker_of(gateway: Gateway, model: str) -> int:
    (pid,) = workers(gateway.pid, f"{model}.gguf")
    return pid


def alive(pid: int) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(shown.stdout.strip()) and not shown.stdout.startswith("Z")


def wait_until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not so():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_an_answer_is_whole_and_counted(client: httpx2.Client) -> None:
    response = ask(client)
    assert text_of(response) == TEXT
    body = response.json()
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == PROMPT
    assert body["usage"]["completion_tokens"] == ANSWER


def test_an_answer_is_streamed_as_it_is_spoken(client: httpx2.Client) -> None:
    with Stream(client, "local/tiny", stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    pieces = [piece for piece in map(piece_of, chunks) if piece]
    assert "".join(pieces) == TEXT
    assert pieces[-1].endswith("😀")
    assert chunks[-1]["usage"]["prompt_tokens"] == PROMPT  # type: ignore[index]  # a chunk's JSON
    assert chunks[-1]["usage"]["completion_tokens"] == ANSWER  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({"max_tokens": 3}, " Hello, this", "length"),
        ({"max_completion_tokens": 1}, " Hello", "length"),
        ({"stop": "tiny"}, " Hello, this is a ", "stop"),
        ({"stop": ["never", "s is a"]}, " Hello, thi", "stop"),
        ({"stop": "never", "temperature": 0, "seed": 1}, TEXT, "stop"),
        ({"temperature": 1.5, "top_p": 0.5, "top_k": 1, "presence_penalty": 1}, TEXT, "stop"),
        ({"user": "somebody", "metadata": {"a": "b"}, "invented": True}, TEXT, "stop"),
    ],
    ids=["limit", "new-limit", "stop", "stop-across-tokens", "no-stop", "sampling", "left-out"],
)
def test_options_are_obeyed(
    client: httpx2.Client, options: dict[str, object], text: str, reason: str
) -> None:
    response = ask(client, **options)
    assert text_of(response) == text
    assert response.json()["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 2.5}, "top_k"),
        ({"stop": 5}, "stop"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object", "$ref": "#/nowhere"}},
                }
            },
            "response_format",
        ),
    ],
    ids=[
        "several-answers",
        "logprobs",
        "logit-bias",
        "a-call-must-come",
        "no-number",
        "no-integer",
        "no-stop",
        "a-picture",
        "what-the-template-refuses",
        "no-schema",
    ],
)
def test_what_a_model_cannot_do_is_refused(
    client: httpx2.Client, options: dict[str, object], param: str | None
) -> None:
    response = ask(client, **options)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"
    if param is not None:
        assert response.json()["error"]["param"] == param
    assert text_of(ask(client)) == TEXT


def test_tools_are_for_the_template(client: httpx2.Client) -> None:
    def prompt(**options: object) -> int:
        response = ask(client, tools=TOOLS, **options)
        assert text_of(response) == TEXT
        tokens: int = response.json()["usage"]["prompt_tokens"]
        return tokens

    assert prompt() > PROMPT
    assert prompt(tool_choice="auto") > PROMPT
    assert prompt(tool_choice="none") == PROMPT


def test_json_is_forced_where_it_is_asked_for(client: httpx2.Client) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"]}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    response = ask(client, response_format=asked, temperature=0, max_tokens=200)
    assert str(text_of(response)).lstrip().startswith("{")


def test_content_in_parts_is_text(client: httpx2.Client) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    response = ask(client, messages=[{"role": "user", "content": parts}])
    assert response.json()["usage"]["prompt_tokens"] == PROMPT


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_prompt_that_is_too_long_is_the_requests_fault(
    client: httpx2.Client, stream: bool
) -> None:
    long = [{"role": "user", "content": "x" * 600}]
    response = ask(client, "small/short", messages=long, stream=stream)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert text_of(ask(client, "small/short")) == TEXT


def test_an_answer_that_fills_the_context_is_cut(client: httpx2.Client) -> None:
    response = ask(client, "small/round")
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert response.json()["usage"]["total_tokens"] == 512
    assert str(text_of(response)).startswith(TEXT * 2)


def test_a_model_that_there_is_not(client: httpx2.Client) -> None:
    assert ask(client, "local/huge").status_code == 404


def test_two_at_once_are_answered_one_after_the_other(client: httpx2.Client) -> None:
    texts: list[object] = []
    with Stream(client, "local/endless") as stream:
        stream.begin()
        second = threading.Thread(
            target=lambda: texts.append(text_of(ask(client, "local/endless", max_tokens=2)))
        )
        second.start()
        time.sleep(0.3)
        assert texts == []
    second.join(PATIENCE)
    assert texts == [" Hello,"]


def test_whoever_finds_no_place_may_come_again(client: httpx2.Client) -> None:
    answers: list[httpx2.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(client, "local/endless", max_tokens=2)))
        for _ in range(3)
    ]
    with Stream(client, "local/endless") as stream:
        stream.begin()
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) == 2)
        for refused in answers:
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "5"
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    for thread in threads:
        thread.join(PATIENCE)
    assert text_of(answers[2]) == " Hello,"


def test_a_client_that_leaves_stops_the_model(gateway: Gateway, client: httpx2.Client) -> None:
    with Stream(client, "local/endless") as stream:
        stream.begin()
        pid = worker_of(gateway, "endless")
    assert text_of(ask(client, "local/endless", max_tokens=2)) == " Hello,"
    assert worker_of(gateway, "endless") == pid


def test_a_prompt_is_not_read_on_for_a_client_that_left(folder: Path) -> None:
    class Impatient:
        """Wants the third part of a prompt no more."""

        def __init__(self) -> None:
            self.parts = 0

        def check(self) -> None:
            self.parts += 1
            if self.parts == 3:
                raise Cancelled

    model = Model(str(folder / "tiny.gguf"), n_ctx=1024, n_batch=32, n_threads=1, verbose=False)
    client = Impatient()
    request = {"messages": [{"role": "user", "content": "x" * 500}], "tools": [], "options": {}}
    speaker = Speaker(model, client)
    with pytest.raises(Cancelled):
        list(speaker.answer(request))
    assert model.n_tokens == 64
    lines = list(speaker.answer({**request, "options": {"temp": 0}}))
    assert "".join(str(line.get("text", "")) for line in lines) == TEXT
    assert lines[-1]["usage"] == [503, ANSWER, 64]


def test_a_process_that_dies_fails_its_request_and_no_other(
    gateway: Gateway, client: httpx2.Client
) -> None:
    with Stream(client, "local/endless") as stream:
        stream.begin()
        pid = worker_of(gateway, "endless")
        os.kill(pid, signal.SIGKILL)
        errors = [chunk["error"] for chunk in stream if "error" in chunk]
    assert [error["code"] for error in errors] == ["upstream_crashed"]  # type: ignore[index]
    assert text_of(ask(client, "local/endless", max_tokens=2)) == " Hello,"
    assert worker_of(gateway, "endless") != pid
    assert any("was ended by SIGKILL" in line for line in gateway.log)


def test_an_idle_process_that_dies_is_replaced(gateway: Gateway, client: httpx2.Client) -> None:
    assert text_of(ask(client)) == TEXT
    pid = worker_of(gateway, "tiny")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: any("model tiny was ended by SIGKILL" in line for line in gateway.log))
    assert text_of(ask(client)) == TEXT


def test_models_are_listed(client: httpx2.Client) -> None:
    names = {model["id"] for model in client.get("/v1/models").json()["data"]}
    assert {"local/tiny", "local/endless", "small/short"} <= names


@pytest.mark.parametrize("end", [Gateway.stop, Gateway.kill], ids=["SIGTERM", "SIGKILL"])
def test_no_process_outlives_the_gateway(
    folder: Path, tmp_path: Path, end: Callable[[Gateway], int]
) -> None:
    environ = {"SLUICE_DRAIN": "1"}
    gateway = Gateway(tmp_path / "own", CONFIG.format(folder=folder), environ).start()
    with gateway.client(gateway.key()) as client:
        assert text_of(ask(client)) == TEXT
        with Stream(client, "local/endless") as stream:
            stream.begin()
            pids = workers(gateway.pid)
            assert len(pids) == 2
            end(gateway)
            wait_until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.write_text("no model"), "invalid magic characters"),
        (lambda path: path.write_bytes(b""), "cannot be loaded"),
        (lambda path: write_model(path, spoilt=True), "GGML_ASSERT(id_to_token.size()"),
        (
            lambda path: path.write_bytes(write_model(path).read_bytes()[:200_000]),
            "is not within the file bounds",
        ),
        (lambda path: write_model(path, template=None), "it has no chat template"),
    ],
    ids=["missing", "text", "empty", "aborts-llama.cpp", "cut", "no-template"],
)
def test_a_file_that_is_no_model_stops_the_start(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "bad.gguf"
    make(path)
    config = f"providers: {{local: {{type: llamacpp, files: {{bad: {path}}}}}}}"
    ended = Gateway(tmp_path / "own", config).run("serve", check=False)
    assert ended.returncode != 0
    said = ended.stderr.strip()
    assert "providers.local: files.bad: " in said
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize("row", ["", "n_ctx: 1000", "queue: -1", "threads: 0", "sise: 3"])
def test_a_row_that_is_wrong_stops_the_start(folder: Path, tmp_path: Path, row: str) -> None:
    files = f"    files: {{tiny: {folder}/tiny.gguf}}\n" if row else ""
    config = f"providers:\n  local:\n    type: llamacpp\n{files}    {row}\n"
    ended = Gateway(tmp_path / "own", config).run("serve", check=False)
    assert ended.returncode != 0
    assert f"providers.local: {row.split(':')[0] or 'files'}: " in ended.stderr


@pytest.mark.parametrize(
    ("stops", "pieces", "text", "stopped_by"),
    [
        ([], [b"a", b"b"], "ab", None),
        (["bc"], [b"ab", b"d"], "abd", None),
        (["bc"], [b"ab"], "ab", None),
        (["bc"], [b"ab", b"cd"], "a", "bc"),
        (["cd", "b"], [b"abcd"], "a", "b"),
        (["abab", "x"], [b"a", b"b", b"a", b"c", b"x"], "abac", "x"),
        ([], [b"\xf0\x9f", b"\x98\x80"], "😀", None),
        ([], [b"a\xf0\x9f"], "a\ufffd", None),
        (["😀"], [b"a\xf0\x9f", b"\x98\x80b"], "a", "😀"),
    ],
)
def test_text_is_made_of_whole_characters_and_ends_before_a_stop(
    stops: list[str], pieces: list[bytes], text: str, stopped_by: str | None
) -> None:
    made = Text(stops)
    shown = ""
    for piece in pieces:
        shown += made.feed(piece)
        if made.stopped_by:
            break
    assert shown + made.rest() == text
    assert made.stopped_by == stopped_by
