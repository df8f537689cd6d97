"""The golden files are what the wires write, and what the wires write is what OpenAI's schemas and
clients expect."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import ValidationError

from gateway.events import Complete, Error, ToolCallStart
from gateway.server.conformance import Probe, catalogue
from tests.goldens.write import FOLDER, cases, produce

Valid = Callable[[str, object], None]

STREAMS = sorted(path.name for path in FOLDER.glob("*.openai_chat.*.sse"))
HEAD = {"id", "object", "created", "model"}


@pytest.mark.parametrize("probe", cases(), ids=lambda probe: probe.name)
def test_the_wires_write_what_the_golden_files_say(probe: Probe) -> None:
    for name, data in produce(probe).items():
        assert (FOLDER / name).read_bytes() == data, (
            f"{name}: `make goldens`, and read the difference"
        )


def test_every_golden_file_belongs_to_a_probe() -> None:
    produced = {name for probe in cases() for name in produce(probe)}
    assert {path.name for kind in ("sse", "json") for path in FOLDER.glob(f"*.{kind}")} == produced


def _frames(name: str) -> Iterator[tuple[str | None, str]]:
    """Event and data of each frame, as the specification reads them."""
    text = (FOLDER / name).read_bytes().decode()
    assert text.endswith("\n\n")
    for block in text[:-2].split("\n\n"):
        match = re.fullmatch(r"(?:event: ([a-z_]+)\n)?data: (.+)", block)
        assert match, f"not a frame of ours: {block!r}"
        yield match[1], match[2]


@pytest.mark.parametrize("name", STREAMS)
def test_no_reader_splits_a_frame_elsewhere(name: str) -> None:
    text = (FOLDER / name).read_bytes().decode()
    assert text.splitlines() == text[:-1].split("\n")


@pytest.mark.parametrize("name", [name for name in STREAMS if ".bare." not in name])
def test_a_stream_is_whole_chunks_in_openais_order(name: str, valid: Valid) -> None:
    probe = catalogue()[name.split(".")[0]]
    request, told = probe.request, probe.events
    frames = list(_frames(name))
    failed = isinstance(told[-1], Error)
    assert (frames[-1] == (None, "[DONE]")) is not failed
    if failed:
        event, data = frames.pop()
        assert event == "error"
        assert data.startswith('{"error":')
        valid("ErrorResponse", json.loads(data))
    else:
        frames.pop()
    chunks: list[dict[str, Any]] = [json.loads(data) for _, data in frames]
    for (event, _), chunk in zip(frames, chunks, strict=True):
        valid("CreateChatCompletionStreamResponse", chunk)
        assert "error" not in chunk
        assert {key: chunk[key] for key in HEAD} == {key: chunks[0][key] for key in HEAD}
        assert event in (None, "tool_notification")
        if "tool_notification" in chunk:
            assert chunk["choices"] == [
                {"index": 0, "delta": {"content": ""}, "finish_reason": None}
            ]
            assert "error" not in chunk["tool_notification"]
        assert ("tool_notification" in chunk and ".named." in name) is (event is not None)
    _check_usage(chunks, asked=request.include_usage and _reported(told[-1]))
    _check_choices([chunk["choices"][0] for chunk in chunks if chunk["choices"]], failed)


def _reported(end: object) -> bool:
    return isinstance(end, Complete) and end.usage is not None


def _check_usage(chunks: list[dict[str, Any]], *, asked: bool) -> None:
    with_usage = [index for index, chunk in enumerate(chunks) if chunk.get("usage")]
    assert with_usage == ([len(chunks) - 1] if asked else [])
    assert [i for i, chunk in enumerate(chunks) if not chunk["choices"]] == with_usage


def _check_choices(items: list[dict[str, Any]], failed: bool) -> None:
    for index in {item["index"] for item in items}:
        own = [item for item in items if item["index"] == index]
        assert [("role" in item["delta"]) for item in own] == [True] + [False] * (len(own) - 1)
        ended = [item["finish_reason"] is not None for item in own]
        assert ended == [False] * (len(own) - (not failed)) + [True] * (not failed)


@pytest.mark.parametrize("name", STREAMS)
def test_tools_of_ours_are_never_the_clients_to_run(name: str) -> None:
    told = catalogue()[name.split(".")[0]].events
    theirs = [e.call_id for e in told if isinstance(e, ToolCallStart) and e.executor == "client"]
    seen = []
    for _, data in _frames(name):
        if data != "[DONE]":
            for item in json.loads(data).get("choices", []):
                seen += [call.get("id") for call in item["delta"].get("tool_calls", [])]
                assert item["finish_reason"] != "tool_calls" or theirs
    assert [call_id for call_id in seen if call_id] == theirs


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.openai_chat.json")))
def test_a_whole_answer_is_valid_and_says_what_its_stream_says(name: str, valid: Valid) -> None:
    body = json.loads((FOLDER / name).read_bytes())
    if "error" in body:
        valid("ErrorResponse", body)
        return
    valid("CreateChatCompletionResponse", body)
    stream = name.replace(".json", ".named.sse")
    chunks = [json.loads(data) for _, data in _frames(stream) if data != "[DONE]"]
    for choice in body["choices"]:
        items = [i for c in chunks for i in c["choices"] if i["index"] == choice["index"]]
        message = choice["message"]
        for field in ("content", "refusal", "reasoning_content"):
            streamed = "".join(item["delta"].get(field) or "" for item in items)
            assert (message.get(field) or "") == streamed
        written = "".join(
            call["function"].get("arguments", "")
            for index in range(len(message.get("tool_calls", [])))
            for item in items
            for call in item["delta"].get("tool_calls", [])
            if call["index"] == index
        )
        calls = message.get("tool_calls", [])
        assert "".join(call["function"]["arguments"] for call in calls) == written
        assert items[-1]["finish_reason"] == choice["finish_reason"]


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.native.sse")))
def test_native_frames_are_numbered_and_named_by_their_type(name: str) -> None:
    frames = [(event, json.loads(data)) for event, data in _frames(name)]
    assert [body["seq"] for _, body in frames] == list(range(1, len(frames) + 1))
    assert all(event == body["type"] for event, body in frames)
    assert [event for event, _ in frames if event in ("complete", "error")] == [frames[-1][0]]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"id": None}, id="a null"),
        pytest.param({"choices": [{"index": 0, "delta": {}}]}, id="a field too few"),
        pytest.param({"object": "chat.completion"}, id="another kind"),
    ],
)
def test_the_schemas_do_refuse_what_is_no_chunk(broken: dict[str, object], valid: Valid) -> None:
    data = next(data for _, data in _frames("text.openai_chat.named.sse"))
    chunk = json.loads(data)
    valid("CreateChatCompletionStreamResponse", chunk)
    with pytest.raises(ValidationError):
        valid("CreateChatCompletionStreamResponse", chunk | broken)
