"""Requests of voice platforms as they were recorded, and what is said to them."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.wires.voice import VoiceWire
from adapters.wires.voice.request import VoiceRequest
from gateway.errors import InvalidRequest, RateLimited, Unauthenticated
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.outcome import Outcome
from gateway.request import ChatRequest, Notice
from gateway.server.conformance import Probe, catalogue
from gateway.sse import DONE
from tests.samples import a_call, a_key, a_request, drain, stream_of

VAPI: dict[str, Any] = {
    "model": "support",
    "stream": True,
    "temperature": 0.5,
    "max_tokens": 250,
    "messages": [
        {"role": "system", "content": "You answer the telephone."},
        {"role": "assistant", "content": "Hello, how can I help?"},
        {"role": "user", "content": "hi i'd like to book"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "endCall", "parameters": {"type": "object", "properties": {}}},
        }
    ],
    "call": {
        "id": "01a0-call",
        "orgId": "org",
        "type": "inboundPhoneCall",
        "assistantId": "assistant",
        "customer": {"number": "+15550100009"},
        "monitor": {"controlUrl": "https://control.example/secret"},
    },
    "phoneNumber": {"number": "+15550100002", "twilioAuthToken": "tw-secret"},
    "customer": {"number": "+15550100001", "name": None},
    "metadata": {"serverUrlSecret": "hush"},
}


def parse(**changes: object) -> VoiceRequest:
    request = VoiceWire().parse(VAPI | changes, 900)
    assert isinstance(request, VoiceRequest)
    return request


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in VAPI.items() if name not in names}


@pytest.mark.parametrize(
    "body",
    [
        VAPI,
        {"messages": [], "call": {}},
        {"messages": [], "customer": {"number": "+1"}},
        {"messages": [], "phoneNumber": {}},
        {"messages": [], "elevenlabs_extra_body": {}},
        {"message": {"type": "status-update"}},
    ],
    ids=["vapi", "call", "customer", "line", "elevenlabs", "news"],
)
def test_what_only_voice_platforms_send_is_theirs(body: dict[str, object]) -> None:
    assert VoiceWire().claims(body, a_key())


@pytest.mark.parametrize(
    "body",
    [
        without("call", "phoneNumber", "customer"),
        {"messages": [], "call": None, "customer": "c_1"},
        {"message": "hello"},
        {"messages": [], "message": {"type": "x"}},
    ],
    ids=["plain", "other types", "a text", "both"],
)
def test_what_other_clients_send_is_not(body: dict[str, object]) -> None:
    assert not VoiceWire().claims(body, a_key())


def test_keys_of_a_tier_may_speak_whatever_they_send() -> None:
    wire = VoiceWire({"tiers": ["phone"]})
    assert wire.claims({"messages": []}, a_key(tier="phone"))
    assert not wire.claims({"messages": []}, a_key(tier="default"))


def test_a_request_has_the_telephone_call_in_it_and_none_of_its_secrets() -> None:
    request = parse()
    assert request.model == "support"
    assert request.messages == VAPI["messages"]
    assert request.tools == VAPI["tools"]
    assert request.options == {"temperature": 0.5, "max_tokens": 250}
    assert request.caller == "+15550100001"
    assert request.conversation == "01a0-call"
    assert request.newest_wins
    assert request.stream
    assert request.flushes


CALLERS = {
    "in the call": ({"customer": None}, "+15550100009"),
    "empty beside the call": ({"customer": {"number": None}}, "+15550100009"),
    "a sip address": (
        {"customer": {"sipUri": "sip:ada@x.example"}, "call": {"id": "1"}},
        "sip:ada@x.example",
    ),
    "no number": ({"customer": {}, "call": {"id": "1", "type": "webCall"}}, None),
    "nobody": ({"customer": None, "call": None}, None),
    "no object": ({"customer": "+1", "call": [1]}, None),
    "no text": ({"customer": {"number": 15550100001}, "call": {}}, None),
}


@pytest.mark.parametrize(("changes", "caller"), CALLERS.values(), ids=CALLERS)
def test_who_calls(changes: dict[str, object], caller: str | None) -> None:
    assert parse(**changes).caller == caller


CONVERSATIONS: dict[str, tuple[dict[str, object], str | None]] = {
    "old": ({"call": {"callId": "c2"}}, "c2"),
    "null": ({"call": {"id": None, "callId": "c2"}}, "c2"),
    "elevenlabs": ({"elevenlabs_extra_body": {"conversation_id": "c3"}}, "c3"),
    "body": ({"conversation_id": "c4"}, "c4"),
    "none": ({}, None),
    "too long": ({"call": {"id": "c" * 300}}, None),
}


@pytest.mark.parametrize(("more", "name"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_which_conversation(more: dict[str, object], name: str | None) -> None:
    request = VoiceWire().parse(without("call") | more, 1)
    assert request.conversation == name
    assert request.newest_wins == (name is not None)


@pytest.mark.parametrize(
    ("stream", "streams"), [(None, True), (True, True), (False, False)], ids=str
)
def test_it_streams_unless_told_not_to(stream: bool | None, streams: bool) -> None:
    assert parse(stream=stream).stream is streams
    assert VoiceWire().parse(without("stream"), 1).stream


def test_functions_of_old_are_tools() -> None:
    functions = [{"name": "endCall", "parameters": {}}]
    request = VoiceWire().parse(without("tools") | {"functions": functions}, 1)
    assert request.tools == [{"type": "function", "function": functions[0]}]


def test_a_row_in_which_nothing_was_heard_is_no_fault() -> None:
    request = parse(messages=[{"role": "user", "content": None}, {"role": "user"}])
    assert [message["content"] for message in request.messages] == ["", ""]


def test_a_model_can_be_set_for_platforms_that_name_none() -> None:
    wire = VoiceWire({"model": "support"})
    assert wire.parse(without("model"), 1).model == "support"
    assert wire.parse(VAPI | {"model": "other"}, 1).model == "other"


def test_news_are_answered_with_nothing() -> None:
    with pytest.raises(Notice) as caught:
        VoiceWire().parse({"message": {"type": "status-update", "status": "ended"}}, 1)
    assert caught.value.reply == {}


@pytest.mark.parametrize("messages", [None, [], "hi", [{"role": "nobody"}]], ids=str)
def test_a_request_that_is_none_is_refused(messages: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(messages=messages)
    assert str(caught.value.param).startswith("messages")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"plane": True}, "plane: no such option; expected one of plain"),
        ({"fillers": [""]}, "fillers.0: "),
        ({"filler_after": 0}, "filler_after: "),
    ],
    ids=["unknown", "empty", "too soon"],
)
def test_a_wrong_option_is_told_in_one_line(config: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        VoiceWire(config)
    assert "\n" not in str(caught.value)


# What is said

ANSWER: list[Event] = [
    StepStart(1, "m", "p"),
    ReasoningDelta("Hm, they want hours."),
    Delta("Let me **look**."),
    ToolCallStart("s", "search", "server"),
    ToolCallDelta("s", "{}"),
    ToolCallReady("s", "{}"),
    ToolCallResult("s", "ok", "9 to 5"),
    StepStart(2, "m", "p"),
    Delta("- Open _nine_ to"),
    Delta(" five"),
    Delta(", see https://x.example/hours"),
    Citation("https://x.example"),
    Complete(usage=Usage(10, 5)),
]


async def said(
    *batches: Sequence[Event], config: dict[str, object] | None = None, **request: object
) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    return await chunks_of(batches, config or {}, a_request(**request))


async def chunks_of(
    batches: Sequence[Sequence[Event]], config: dict[str, object], request: ChatRequest
) -> list[dict[str, Any]]:
    wire, call = VoiceWire(config), a_call(request)
    events: Any = stream_of(batches)
    for interceptor in reversed(wire.interceptors(call)):
        events = interceptor(call, events)
    encoder = wire.encoder(call)
    data = encoder.begin() + b"".join([encoder.encode(batch) async for batch in events])
    assert data.endswith(DONE)
    frames = data.removesuffix(DONE).decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def text(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]
    )


async def test_an_answer_is_words_and_nothing_else() -> None:
    chunks = await said(*([event] for event in ANSWER))
    assert text(chunks) == "Let me look.\nOpen nine to five, see "
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert {key for chunk in chunks for key in chunk["choices"][0]["delta"]} == {
        "role",
        "content",
    }
    assert {tuple(chunk) for chunk in chunks} == {("id", "created", "model", "object", "choices")}


async def test_an_answer_in_one_batch_is_the_same() -> None:
    assert text(await said(ANSWER)) == text(await said(*([event] for event in ANSWER)))


async def test_text_can_be_left_as_it_is() -> None:
    chunks = await said(ANSWER, config={"plain": False})
    assert text(chunks) == ("Let me **look**.\n- Open _nine_ to five, see https://x.example/hours")


async def test_a_refusal_is_spoken() -> None:
    assert text(await said([RefusalDelta("I cannot."), Complete()])) == "I cannot."


async def test_usage_is_told_once_to_who_asked() -> None:
    chunks = await said(ANSWER, include_usage=True)
    assert [chunk["usage"]["total_tokens"] for chunk in chunks if "usage" in chunk] == [15]
    assert chunks[-1]["choices"] == []


async def test_a_chunk_has_one_whole_tool_call() -> None:
    chunks = await said(
        [ToolCallStart("a", "endCall"), ToolCallStart("b", "transferCall")],
        [ToolCallDelta("b", '{"to"'), ToolCallDelta("a", "{}"), ToolCallDelta("b", ": 1}")],
        [Delta("Bye [now")],
        [ToolCallReady("a", "{}"), ToolCallReady("b", '{"to": 1}')],
        [Complete("tool_calls")],
    )
    calls = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in chunks]
    assert [found for found in calls if found] == [
        [
            {
                "index": index,
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        ]
        for index, (call_id, name, arguments) in enumerate(
            [("a", "endCall", "{}"), ("b", "transferCall", '{"to": 1}')]
        )
    ]
    assert text(chunks) == "Bye now"
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_failure_is_an_apology_and_an_end() -> None:
    chunks = await said([Delta("Well")], [RateLimited("Too much.").event()])
    assert text(chunks).startswith("Well… Sorry, ")
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["failure"]["message"] == "Too much."
    assert not any("error" in chunk for chunk in chunks)


async def test_the_apology_can_be_set() -> None:
    chunks = await said([RateLimited("Too much.").event()], config={"apology": "Pardon."})
    assert text(chunks) == "Pardon."


async def test_a_whole_answer_is_spoken_as_well() -> None:
    wire, call = VoiceWire(), a_call(a_request(stream=False))
    events: Any = stream_of([ANSWER])
    for interceptor in reversed(wire.interceptors(call)):
        events = interceptor(call, events)
    outcome = Outcome()
    outcome.feed(await drain(events))
    message = dict(wire.render(call, outcome))["choices"][0]["message"]  # type: ignore[index]
    assert message["content"] == "Let me look.\nOpen nine to five, see "
    assert "reasoning_content" not in message
    assert message["annotations"] == []


def test_a_failure_before_the_first_byte_is_spoken() -> None:
    reply = VoiceWire().refuse(RateLimited("Too much.").event(), parse())
    assert (reply.status, reply.media_type) == (200, "text/event-stream")
    assert b"Sorry" in reply.body
    assert reply.body.endswith(DONE)
    whole = VoiceWire().refuse(RateLimited("Too much.").event(), parse(stream=False))
    told = json.loads(whole.body)
    assert whole.status == 200
    assert told["choices"][0]["message"]["content"].startswith("Sorry")
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["failure"]["message"] == "Too much."
    assert "error" not in told


def test_who_sets_a_platform_up_is_told_what_is_wrong() -> None:
    wire = VoiceWire()
    assert wire.refuse(Unauthenticated("No key.").event(), None).status == 401
    reply = wire.refuse(InvalidRequest("No.", param="messages").event(), None)
    assert reply.status == 400
    assert json.loads(reply.body)["error"]["param"] == "messages"


async def test_an_answer_that_nobody_waits_for_ends_without_a_word() -> None:
    late = RateLimited("Newer.", code="superseded").event()
    chunks = await said([Delta("Well, ")], [late])
    assert text(chunks) == "Well, "
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    whole = json.loads(VoiceWire().refuse(late, parse(stream=False)).body)
    assert whole["choices"][0]["message"]["content"] == ""


def test_a_gateway_that_is_busy_says_so_before_it_has_read_a_request() -> None:
    reply = VoiceWire().refuse(RateLimited("Too much.").event(), None)
    assert reply.status == 200
    assert reply.body.endswith(DONE)


@pytest.mark.parametrize("probe", catalogue().values(), ids=lambda probe: probe.name)
async def test_whatever_an_engine_says_is_chunks_of_speech(
    probe: Probe, valid: Callable[[str, object], None]
) -> None:
    chunks = await chunks_of([[event] for event in probe.events], {}, probe.request)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    for chunk in chunks:
        valid("CreateChatCompletionStreamResponse", chunk)
        assert "error" not in chunk
        assert "tool_notification" not in chunk
    assert {field for choice in choices for field in choice["delta"]} <= {
        "role",
        "content",
        "tool_calls",
    }
    assert {choice["index"] for choice in choices} == {0}
    assert [choice["finish_reason"] is not None for choice in choices] == [
        *[False] * (len(choices) - 1),
        True,
    ]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert [call["index"] for call in calls] == list(range(len(calls)))
    assert all(len(choice["delta"].get("tool_calls", [0])) == 1 for choice in choices)
    assert all(json.loads(call["function"]["arguments"]) is not None for call in calls)
