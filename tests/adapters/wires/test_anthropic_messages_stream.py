"""Events as Anthropic's frames: blocks one after the other, and the same message when it is whole."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from adapters.wires.anthropic_messages import AnthropicMessagesWire
from gateway.errors import InvalidRequest, ProviderFailed, RateLimited
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    ToolStatus,
    Usage,
)
from gateway.outcome import Outcome
from gateway.records import ApiKey, Call, Dialect
from gateway.request import ChatRequest

WIRE = AnthropicMessagesWire()
EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
CALL = Call(
    id="0198c0de-0000-7000-8000-000000000001",
    key=ApiKey(
        id="key_1",
        email="ada@example.com",
        name="",
        tier="default",
        masked="sk-Ab3…9xQ2",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    ),
    request=ChatRequest(model="m", messages=[]),
    created=1764000000,
)
SEARCH = (
    "Search results for 'tides'.\n\n1. Tides\n   https://tides.example/oslo\n   High at noon.\n\n"
    "2. Moon\n   https://moon.example\n\nEnd of the search results."
)


def frames(*told: Event, dialect: Dialect = Dialect.NAMED) -> list[dict[str, Any]]:
    """The data of all frames, which are named by their type."""
    call = Call(**{**{name: getattr(CALL, name) for name in _NAMES}, "dialect": dialect})
    encoder = WIRE.encoder(call)
    written = encoder.begin() + b"".join(encoder.encode((event,)) for event in told)
    values = []
    for block in written.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        values.append(value)
    return values


_NAMES = ("id", "key", "request", "created", "dialect", "detail")


def assemble(values: list[dict[str, Any]]) -> dict[str, Any]:
    """A message as the SDK puts it together, from events that its types allow."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for value in values:
        EVENT.validate_python(value)
        snapshot = accumulate_event(
            event=value,  # type: ignore[arg-type]  # made one by it, as of what comes from a server
            current_snapshot=snapshot,
            json_bufs=buffers,
        )
    message: dict[str, Any] = snapshot.model_dump(mode="json", exclude_none=True)
    return message


def whole(*told: Event) -> dict[str, Any]:
    outcome = Outcome()
    outcome.feed(told)
    return json.loads(json.dumps(WIRE.render(CALL, outcome)))  # type: ignore[no-any-return]


def content(*told: Event) -> list[dict[str, Any]]:
    """The blocks, which are the same in a stream and in a whole answer."""
    rendered = whole(*told, Complete())["content"]
    streamed = assemble(frames(*told, Complete()))["content"]
    bare = [{key: value for key, value in block.items() if value is not None} for block in rendered]
    for one, other in zip(streamed, bare, strict=True):
        one.pop("parsed_output", None)
        assert json.dumps(one, sort_keys=True).replace(', "page_age": null', "") == json.dumps(
            other, sort_keys=True
        ).replace('"page_age": null, ', "").replace(', "page_age": null', "")
    return rendered  # type: ignore[no-any-return]


def call(call_id: str, name: str, arguments: str, executor: Any = "client") -> list[Event]:
    return [
        ToolCallStart(call_id, name, executor),
        ToolCallDelta(call_id, arguments),
        ToolCallReady(call_id, arguments),
    ]


def used(call_id: str, name: str, **given: object) -> dict[str, object]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def ours(call_id: str, code: str) -> dict[str, object]:
    block = {"type": "server_tool_use", "id": f"srvtoolu_gw_{call_id}"}
    return {**block, "name": "code_execution", "input": {"code": code}}


def search(call_id: str, **given: object) -> dict[str, object]:
    block = {"type": "server_tool_use", "id": f"srvtoolu_gw_{call_id}"}
    return {**block, "name": "web_search", "input": given}


def returned(call_id: str, stdout: str, stderr: str = "", code: int = 0) -> dict[str, object]:
    return {
        "type": "code_execution_tool_result",
        "tool_use_id": f"srvtoolu_gw_{call_id}",
        "content": {
            "type": "code_execution_result",
            "stdout": stdout,
            "stderr": stderr,
            "return_code": code,
            "content": [],
        },
    }


def text(value: str) -> dict[str, object]:
    return {"type": "text", "text": value}


def test_a_stream_is_a_message_being_written() -> None:
    usage = Usage(input_tokens=100, output_tokens=7, cached_tokens=60, cache_write_tokens=30)
    values = frames(StepStart(1, "u", "p"), Delta("Hel"), Delta("lo"), Complete(usage=usage))
    assert [value["type"] for value in values] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    message = assemble(values)
    assert message["id"] == "msg_0198c0de000070008000000000000001"
    assert (message["role"], message["model"]) == ("assistant", "m")
    assert message["content"] == [text("Hello")]
    assert message["stop_reason"] == "end_turn"
    counts = {
        "input_tokens": 10,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30,
        "output_tokens": 7,
    }
    assert message["usage"] == counts
    assert whole(Delta("Hello"), Complete(usage=usage))["usage"] == counts


def test_an_empty_answer_has_no_blocks() -> None:
    assert content() == []
    assert content(Delta("")) == []


def test_thinking_is_signed_and_each_stretch_is_a_block() -> None:
    assert content(
        ReasoningDelta("Let me "),
        ReasoningDelta("see."),
        ReasoningDelta("", signature="c2ln"),
        ReasoningDelta("", redacted="eA=="),
        ReasoningDelta("Again."),
        Delta("42"),
        ReasoningDelta("", signature="bG9uZQ=="),
    ) == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "thinking", "thinking": "Again.", "signature": ""},
        text("42"),
        {"type": "thinking", "thinking": "", "signature": "bG9uZQ=="},
    ]


def test_calls_that_are_written_side_by_side_come_one_after_the_other() -> None:
    told: list[Event] = [
        Delta("Both. "),
        ToolCallStart("a", "locate"),
        ToolCallDelta("a", '{"ci'),
        ToolCallStart("b", "weigh"),
        ToolCallDelta("b", '{"kg"'),
        ToolCallDelta("a", 'ty":"Oslo"}'),
        Delta("Wait."),
        ToolCallDelta("b", ":3}"),
        ToolCallReady("b", '{"kg":3}'),
        ToolCallReady("a", '{"city":"Oslo"}'),
    ]
    # What is said while a call is written waits for its end.
    assert content(*told) == [
        text("Both. "),
        used("a", "locate", city="Oslo"),
        used("b", "weigh", kg=3),
        text("Wait."),
    ]


def test_very_many_calls_side_by_side_are_written_in_their_order() -> None:
    names = [f"c{number}" for number in range(2000)]
    told: list[Event] = [ToolCallStart(name, "locate") for name in names]
    told += [ToolCallDelta(name, part) for part in ('{"city":', '"Oslo"}') for name in names]
    told += [ToolCallReady(name, '{"city":"Oslo"}') for name in reversed(names)]
    blocks = whole(*told, Complete("tool_calls"))["content"]
    assert blocks == [used(name, "locate", city="Oslo") for name in names]


def test_a_call_that_is_told_whole_is_written_in_one_piece() -> None:
    told = [ToolCallStart("a", "locate"), ToolCallReady("a", '{"city":"Oslo"}')]
    assert content(*told) == [used("a", "locate", city="Oslo")]
    assert content(ToolCallStart("a", "now"), ToolCallReady("a", "{}")) == [used("a", "now")]


@pytest.mark.parametrize("arguments", ["[1]", "{no", "5"], ids=["a list", "no JSON", "a number"])
def test_arguments_are_always_an_object(arguments: str) -> None:
    told = [ToolCallStart("a", "locate"), ToolCallReady("a", arguments)]
    assert content(*told) == [used("a", "locate", _raw=arguments)]


def test_a_call_that_was_cut_is_closed() -> None:
    told = [ToolCallStart("a", "locate"), ToolCallDelta("a", '{"ci'), Delta("And")]
    values = frames(*told, Complete("length"))
    assert [value["type"] for value in values if "block" in value["type"]] == [
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    ]
    assert assemble(values)["stop_reason"] == "max_tokens"


def test_tools_of_ours_are_the_servers_to_run() -> None:
    told = [
        StepStart(1, "u", "p"),
        Delta("Let me see."),
        *call("a", "calculator", '{"expression":"1+1"}', "server"),
        *call("b", "current_time", "{}", "server"),
        ToolCallResult("b", "error", "No such zone."),
        ToolCallResult("a", "ok", "2"),
        StepStart(2, "u", "p"),
        Delta("It is 2."),
    ]
    assert content(*told) == [
        text("Let me see."),
        ours("a", 'calculator({"expression":"1+1"})'),
        ours("b", "current_time({})"),
        returned("b", "", "No such zone.", 1),
        returned("a", "2"),
        text("It is 2."),
    ]
    hidden = assemble(frames(*told, Complete(), dialect=Dialect.OFF))["content"]
    assert hidden == [text("Let me see."), text("It is 2.")]


def test_what_a_caller_may_not_see_is_empty() -> None:
    told = [
        ToolCallStart("a", "calculator", "server"),
        ToolCallReady("a", ""),
        ToolCallResult("a", "ok", ""),
    ]
    assert content(*told) == [ours("a", "calculator()"), returned("a", "")]


def test_a_call_that_never_was_ready_still_has_its_result() -> None:
    told = [ToolCallStart("a", "calculator", "server"), ToolCallResult("a", "cancelled", "")]
    assert content(*told) == [ours("a", "calculator()"), returned("a", "", "cancelled", 1)]


def page(title: str, url: str, excerpt: str) -> dict[str, object]:
    return {
        "type": "web_search_result",
        "title": title,
        "url": url,
        "encrypted_content": excerpt,
        "page_age": None,
    }


@pytest.mark.parametrize(
    ("status", "output", "found"),
    [
        pytest.param(
            "ok",
            SEARCH,
            [
                page("Tides", "https://tides.example/oslo", "High at noon."),
                page("Moon", "https://moon.example", ""),
            ],
            id="ours",
        ),
        pytest.param(
            "ok",
            '[{"type":"web_search_result","url":"https://a.example","title":"A"},5]',
            [page("A", "https://a.example", "")],
            id="a provider's",
        ),
        pytest.param("ok", "", [], id="not shown"),
        pytest.param(
            "timeout",
            "No result within 10 s.",
            {"type": "web_search_tool_result_error", "error_code": "unavailable"},
            id="failed",
        ),
        pytest.param(
            "denied",
            "Not run.",
            {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
            id="denied",
        ),
    ],
)
def test_a_search_shows_the_pages_it_found(status: ToolStatus, output: str, found: object) -> None:
    told = [
        *call("a", "web_search", '{"query":"tides"}', "server"),
        ToolCallResult("a", status, output),
    ]
    assert content(*told) == [
        search("a", query="tides"),
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_gw_a",
            "content": found,
        },
    ]


def test_a_search_that_names_no_pages_is_shown_as_it_is() -> None:
    told = [*call("a", "web_search", "{}", "server"), ToolCallResult("a", "ok", "Nothing.")]
    assert content(*told) == [search("a"), returned("a", "Nothing.")]


def test_citations_belong_to_the_text_before_them() -> None:
    cited = {
        "type": "web_search_result_location",
        "url": "https://tides.example",
        "title": "Tides",
        "cited_text": "",
        "encrypted_index": "",
    }
    source = Citation("https://tides.example", "Tides", 0, 5)
    assert content(Delta("Noon."), source, source, Delta(" Yes.")) == [
        {**text("Noon. Yes."), "citations": [cited, cited]}
    ]
    assert content(source) == [{**text(""), "citations": [cited]}]


@pytest.mark.parametrize(
    ("end", "reason", "sequence"),
    [
        (Complete("stop", "end_turn"), "end_turn", None),
        (Complete("stop", "stop_sequence", stop_sequence="END"), "stop_sequence", "END"),
        (Complete("length", "length"), "max_tokens", None),
        (
            Complete("length", "model_context_window_exceeded"),
            "model_context_window_exceeded",
            None,
        ),
        (Complete("length", "tool_rounds"), "pause_turn", None),
        (Complete("stop", "pause_turn"), "pause_turn", None),
        (Complete("tool_calls", "tool_calls"), "tool_use", None),
        (Complete("content_filter", "content_filter"), "refusal", None),
    ],
    ids=lambda value: str(value.provider_reason) if isinstance(value, Complete) else "",
)
def test_the_end_is_told_in_anthropics_words(
    end: Complete, reason: str, sequence: str | None
) -> None:
    for message in (whole(Delta("x"), end), assemble(frames(Delta("x"), end))):
        assert (message["stop_reason"], message.get("stop_sequence")) == (reason, sequence)
        Message.model_validate({**whole(Delta("x"), end)})


@pytest.mark.parametrize(
    ("end", "blocks"),
    [(Complete("stop"), [text("I can't.")]), (Complete("content_filter"), [])],
    ids=["in words of the model", "of a filter"],
)
def test_a_refusal_is_told_as_one(end: Complete, blocks: list[object]) -> None:
    for message in (
        whole(RefusalDelta("I "), RefusalDelta("can't."), end),
        assemble(frames(RefusalDelta("I "), RefusalDelta("can't."), end)),
    ):
        assert message["content"] == blocks
        assert message["stop_reason"] == "refusal"
        assert message["stop_details"]["explanation"] == "I can't."


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x").event(), "invalid_request_error"),
        (ProviderFailed("x", status=401).event(), "authentication_error"),
        (ProviderFailed("x", status=402).event(), "billing_error"),
        (ProviderFailed("x", status=403).event(), "permission_error"),
        (ProviderFailed("x", status=404).event(), "not_found_error"),
        (ProviderFailed("x", status=409).event(), "invalid_request_error"),
        (ProviderFailed("x", status=413).event(), "request_too_large"),
        (RateLimited("x").event(), "rate_limit_error"),
        (ProviderFailed("x", status=500).event(), "api_error"),
        (ProviderFailed("x", status=502).event(), "api_error"),
        (ProviderFailed("x", status=503).event(), "overloaded_error"),
        (ProviderFailed("x", status=504).event(), "timeout_error"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Error) else "",
)
def test_an_error_has_anthropics_name(error: Error, kind: str) -> None:
    body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": "x"}}
    if error.code is not None:
        body["error"] = {**body["error"], "details": {"error_code": error.code}}
    assert WIRE.render_error(error) == body
    assert frames(Delta("Hel"), error)[-1] == body


def test_an_error_names_the_parameter_at_fault() -> None:
    error = InvalidRequest("That is no number.", param="top_k").event()
    assert WIRE.render_error(error)["error"] == {
        "type": "invalid_request_error",
        "message": "top_k: That is no number.",
    }


# Whatever comes


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """Calls of several kinds, cut into pieces that come in any order that the grammar allows."""
    pieces = []
    for number in range(draw(st.integers(0, 4))):
        call_id, executor = f"c{number}", draw(st.sampled_from(["client", "server", "provider"]))
        arguments = draw(st.sampled_from(["{}", '{"a":1}', '{"text":"é\\n"}']))
        cut = draw(st.integers(0, len(arguments)))
        told: list[Event] = [ToolCallStart(call_id, "tool", executor)]
        if draw(st.booleans()):
            parts = (arguments[:cut], arguments[cut:])
            told += [ToolCallDelta(call_id, part) for part in parts]
        told.append(ToolCallReady(call_id, arguments))
        if executor != "client":
            told.append(ToolCallResult(call_id, "ok", "out"))
        pieces.append(told)
    loose = st.sampled_from(
        [Delta("x"), ReasoningDelta("t"), ReasoningDelta("", signature="s"), Citation("u")]
    )
    pieces += [[event] for event in draw(st.lists(loose, max_size=6))]
    story: list[Event] = []
    while pieces:
        chosen = draw(st.sampled_from(pieces))
        story.append(chosen.pop(0))
        if not chosen:
            pieces.remove(chosen)
    return story


@settings(deadline=None)
@given(stories())
def test_blocks_never_overlap_and_nothing_is_lost(story: list[Event]) -> None:
    open_: int | None = None
    seen = -1
    for value in frames(*story, Complete()):
        match value["type"]:
            case "content_block_start":
                assert open_ is None
                assert value["index"] == seen + 1
                open_ = seen = value["index"]
            case "content_block_delta":
                assert value["index"] == open_
            case "content_block_stop":
                assert value["index"] == open_
                open_ = None
    assert open_ is None
    blocks = content(*story)
    texts = "".join(block["text"] for block in blocks if block["type"] == "text")
    assert texts == "".join(event.text for event in story if isinstance(event, Delta))
    called = [block["id"] for block in blocks if block["type"].endswith("tool_use")]
    started = [event.call_id for event in story if isinstance(event, ToolCallStart)]
    assert sorted(name.removeprefix("srvtoolu_gw_") for name in called) == sorted(started)
