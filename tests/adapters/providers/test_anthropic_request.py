"""Requests in OpenAI's form and what Anthropic is sent for them."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from adapters.providers.anthropic_request import Style, translate
from gateway.errors import InvalidRequest
from gateway.request import ChatRequest
from gateway.sse import dump

SCHEMA = TypeAdapter(MessageCreateParamsStreaming)

Row = dict[str, Any]

HI: Row = {"role": "user", "content": "Hi"}
PNG = "iVBORw0KGgo="
FUNCTION: Row = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}
TOOL: Row = {
    "name": "weather",
    "description": "The weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def body(
    messages: list[Row] | None = None,
    tools: list[Row] | None = None,
    style: Style | None = None,
    n: int = 1,
    **options: object,
) -> dict[str, Any]:
    """What is sent, which is always what the SDK's own types allow."""
    request = ChatRequest(
        model="claude-test", messages=messages or [HI], tools=tools or [], options=options, n=n
    )
    translated = translate(request, style or Style())
    dump(translated)
    SCHEMA.validate_python(translated)
    return translated


def text(value: str, **further: object) -> Row:
    return {"type": "text", "text": value, **further}


def user(*blocks: Row) -> Row:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Row) -> Row:
    return {"role": "assistant", "content": list(blocks)}


def call(call_id: str, arguments: object = "{}", name: str = "weather") -> Row:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def calls(*called: Row, content: object = None, **further: object) -> Row:
    return {"role": "assistant", "content": content, "tool_calls": list(called), **further}


def result(call_id: str, content: object = "fine", **further: object) -> Row:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **further}


def tool_use(call_id: str, **arguments: object) -> Row:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": arguments}


def tool_result(call_id: str, *blocks: Row, **further: object) -> Row:
    return {"type": "tool_result", "tool_use_id": call_id, "content": list(blocks), **further}


def image(url: object, **further: object) -> Row:
    return {"type": "image_url", "image_url": url, **further}


OPENING = user(text("(The conversation starts.)"))

HISTORIES: dict[str, tuple[list[Row], list[Row] | None, list[Row]]] = {
    "one question": ([HI], None, [user(text("Hi"))]),
    "a system's row": (
        [{"role": "system", "content": "Be brief."}, HI],
        [text("Be brief.")],
        [user(text("Hi"))],
    ),
    "several leading rows of the system": (
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [text("Be kind."), text(" ")]},
            HI,
        ],
        [text("Be brief."), text("Be kind.")],
        [user(text("Hi"))],
    ),
    "a blank row of the system": (
        [{"role": "system", "content": " \n"}, HI],
        None,
        [user(text("Hi"))],
    ),
    "a later row of the system": (
        [HI, {"role": "assistant", "content": "Hello"}, {"role": "system", "content": "Now."}, HI],
        None,
        [
            user(text("Hi")),
            assistant(text("Hello")),
            user(text("<system>\nNow.\n</system>"), text("Hi")),
        ],
    ),
    "only a system's row": ([{"role": "system", "content": "Greet."}], [text("Greet.")], [OPENING]),
    "an assistant that greets first": (
        [{"role": "assistant", "content": "Hello, how can I help? "}, HI],
        None,
        [OPENING, assistant(text("Hello, how can I help? ")), user(text("Hi"))],
    ),
    "rows of one role in a row": (
        [HI, HI, {"role": "assistant", "content": "A"}, {"role": "assistant", "content": "B"}, HI],
        None,
        [user(text("Hi"), text("Hi")), assistant(text("A"), text("B")), user(text("Hi"))],
    ),
    "an empty answer": (
        [HI, {"role": "assistant", "content": ""}, {"role": "assistant", "content": None}, HI],
        None,
        [user(text("Hi"), text("Hi"))],
    ),
    "a blank question": ([{"role": "user", "content": " "}], None, [user(text("(nothing)"))]),
    "blank parts": (
        [{"role": "user", "content": [text(""), text("Hi"), text("\n")]}],
        None,
        [user(text("Hi"))],
    ),
    "a beginning to go on from": (
        [HI, {"role": "assistant", "content": [text("The answer "), text("is: \n")]}],
        None,
        [user(text("Hi")), assistant(text("The answer "), text("is:"))],
    ),
    "a refusal of an earlier round": (
        [HI, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, HI],
        None,
        [user(text("Hi")), assistant(text("No.")), user(text("Hi"))],
    ),
    "pictures": (
        [
            {
                "role": "user",
                "content": [
                    text("See", cache_control={"type": "ephemeral"}),
                    image({"url": f"data:image/png;base64,{PNG}", "detail": "high"}),
                    image({"url": f"data:image/JPG;charset=x;base64,{PNG}"}),
                    image("https://pictures.example/a.png"),
                ],
            }
        ],
        None,
        [
            user(
                text("See", cache_control={"type": "ephemeral"}),
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                },
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG},
                },
                {
                    "type": "image",
                    "source": {"type": "url", "url": "https://pictures.example/a.png"},
                },
            )
        ],
    ),
    "a document": (
        [
            {
                "role": "user",
                "content": [
                    {
                        "type": "file",
                        "file": {
                            "filename": "a.pdf",
                            "file_data": "data:application/pdf;base64,JVBERi0=",
                        },
                    }
                ],
            }
        ],
        None,
        [
            user(
                {
                    "type": "document",
                    "source": {
                        "type": "base64",
                        "media_type": "application/pdf",
                        "data": "JVBERi0=",
                    },
                    "title": "a.pdf",
                }
            )
        ],
    ),
    "calls and their results": (
        [
            HI,
            calls(call("a", '{"city": "Oslo"}'), call("b", ""), content="Looking."),
            result("a"),
            result("b", [text("it"), text("rains")], is_error=True),
            {"role": "user", "content": "And?"},
        ],
        None,
        [
            user(text("Hi")),
            assistant(text("Looking."), tool_use("a", city="Oslo"), tool_use("b")),
            user(
                tool_result("a", text("fine")),
                tool_result("b", text("it"), text("rains"), is_error=True),
                text("And?"),
            ),
        ],
    ),
    "results that come late": (
        [
            HI,
            calls(call("a"), call("b")),
            HI,
            result("b"),
            {"role": "system", "content": "S"},
            result("a"),
        ],
        None,
        [
            user(text("Hi")),
            assistant(tool_use("a"), tool_use("b")),
            user(
                tool_result("b", text("fine")),
                tool_result("a", text("fine")),
                text("Hi"),
                text("<system>\nS\n</system>"),
            ),
        ],
    ),
    "a result that is empty": (
        [HI, calls(call("a")), result("a", "")],
        None,
        [
            user(text("Hi")),
            assistant(tool_use("a")),
            user({"type": "tool_result", "tool_use_id": "a"}),
        ],
    ),
    "a result with a picture": (
        [HI, calls(call("a")), result("a", [image({"url": f"data:image/gif;base64,{PNG}"})])],
        None,
        [
            user(text("Hi")),
            assistant(tool_use("a")),
            user(
                tool_result(
                    "a",
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/gif", "data": PNG},
                    },
                )
            ),
        ],
    ),
    "arguments that are not JSON": (
        [HI, calls(call("a", '{"city": '), call("b", "[1]"), call("c", {"x": 1}), call("d", None))],
        None,
        [
            user(text("Hi")),
            assistant(
                tool_use("a", _raw='{"city": '),
                tool_use("b", _raw="[1]"),
                tool_use("c", x=1),
                tool_use("d"),
            ),
        ],
    ),
    "ids that come again in each round": (
        [HI, calls(call("0")), result("0", "one"), calls(call("0")), result("0", "two")],
        None,
        [
            user(text("Hi")),
            assistant(tool_use("0")),
            user(tool_result("0", text("one"))),
            assistant(tool_use("0_2")),
            user(tool_result("0_2", text("two"))),
        ],
    ),
    "thinking, replayed before the call": (
        [
            HI,
            calls(
                call("a"),
                content="Looking.",
                reasoning_content="Hm. Well.",
                reasoning_details=[
                    {"text": "Hm. ", "signature": "sig1"},
                    {"redacted": "blob"},
                    {"text": "", "signature": "sig2"},
                ],
            ),
            result("a"),
        ],
        None,
        [
            user(text("Hi")),
            assistant(
                {"type": "thinking", "thinking": "Hm. ", "signature": "sig1"},
                {"type": "redacted_thinking", "data": "blob"},
                {"type": "thinking", "thinking": "", "signature": "sig2"},
                text("Looking."),
                tool_use("a"),
            ),
            user(tool_result("a", text("fine"))),
        ],
    ),
    "thinking in pieces": (
        [
            HI,
            {
                "role": "assistant",
                "content": "So.",
                "reasoning_details": [{"text": "a"}, {"text": "b"}, {"signature": "s"}],
            },
            HI,
        ],
        None,
        [
            user(text("Hi")),
            assistant({"type": "thinking", "thinking": "ab", "signature": "s"}, text("So.")),
            user(text("Hi")),
        ],
    ),
    "thinking without a signature": (
        [
            HI,
            {
                "role": "assistant",
                "content": "So.",
                "reasoning_content": "Hm.",
                "reasoning_details": [{"text": "Hm."}],
            },
            HI,
        ],
        None,
        [user(text("Hi")), assistant(text("So.")), user(text("Hi"))],
    ),
    "fields that nobody knows": (
        [{"role": "user", "content": "Hi", "name": "Ann", "mood": "fine"}],
        None,
        [user(text("Hi"))],
    ),
}


@pytest.mark.parametrize(("rows", "system", "messages"), HISTORIES.values(), ids=HISTORIES.keys())
def test_a_history(rows: list[Row], system: list[Row] | None, messages: list[Row]) -> None:
    sent = body(rows)
    assert sent.get("system") == system
    assert sent["messages"] == messages


def test_ids_of_other_providers_are_cleaned_alike_for_call_and_result() -> None:
    strange = ["call|1", "call/1", "functions.weather:0", "é" * 40]
    rows = [HI, calls(*map(call, strange)), *(result(name) for name in reversed(strange))]
    _, said, back = body(rows)["messages"]
    ids = [block["id"] for block in said["content"]]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", name) for name in ids)
    assert len(set(ids)) == len(ids)
    assert [block["tool_use_id"] for block in back["content"]] == ids[::-1]


def test_nothing_that_was_given_is_changed() -> None:
    rows = [
        HI,
        calls(call("a", {"x": [1]})),
        result("a"),
        {"role": "assistant", "content": [text("a ")]},
    ]
    before = repr((rows, FUNCTION))
    body(rows, [FUNCTION], response_format={"type": "json_object"})
    assert repr((rows, FUNCTION)) == before


TOOLS: dict[str, tuple[list[Row], dict[str, object], dict[str, object]]] = {
    "a function": ([FUNCTION], {}, {"tools": [TOOL]}),
    "a function without arguments": (
        [{"type": "function", "function": {"name": "now"}}],
        {},
        {"tools": [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]},
    ),
    "a schema without a type": (
        [{"type": "function", "function": {"name": "now", "parameters": {"properties": {}}}}],
        {},
        {"tools": [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]},
    ),
    "a breakpoint of the cache": (
        [{**FUNCTION, "cache_control": {"type": "ephemeral"}}],
        {},
        {"tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}]},
    ),
    "a tool of Anthropic's": (
        [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        {},
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]},
    ),
    "auto": ([FUNCTION], {"tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
    "none": ([FUNCTION], {"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
    "required": ([FUNCTION], {"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
    "a named function": (
        [FUNCTION],
        {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"tool_choice": {"type": "tool", "name": "weather"}},
    ),
    "one at a time": (
        [FUNCTION],
        {"parallel_tool_calls": False},
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    "one at a time, required": (
        [FUNCTION],
        {"parallel_tool_calls": False, "tool_choice": "required"},
        {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    ),
    "one at a time of none": (
        [FUNCTION],
        {"parallel_tool_calls": False, "tool_choice": "none"},
        {"tool_choice": {"type": "none"}},
    ),
    "many at a time": ([FUNCTION], {"parallel_tool_calls": True}, {"tool_choice": None}),
    "a choice of nothing": (
        [],
        {"tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": None, "tool_choice": None},
    ),
}


@pytest.mark.parametrize(("tools", "options", "expected"), TOOLS.values(), ids=TOOLS.keys())
def test_tools(tools: list[Row], options: dict[str, Any], expected: dict[str, object]) -> None:
    sent = body(tools=tools, **options)
    assert {name: sent.get(name) for name in expected} == expected


def test_a_history_with_calls_names_their_tools_though_none_is_offered() -> None:
    rows = [HI, calls(call("a"), call("b", name="now"), call("c")), *map(result, "abc")]
    sent = body(rows)
    assert [tool["name"] for tool in sent["tools"]] == ["weather", "now"]
    assert sent["tool_choice"] == {"type": "none"}


ADAPTIVE = {"type": "adaptive", "display": "summarized"}
BUDGET = Style(thinking="budget", max_tokens=20_000)
OPTIONS: dict[str, tuple[Style, dict[str, object], dict[str, object]]] = {
    "defaults": (
        Style(max_tokens=77),
        {},
        {
            "model": "claude-test",
            "max_tokens": 77,
            "messages": [user(text("Hi"))],
            "stream": True,
        },
    ),
    "max_tokens": (Style(), {"max_tokens": 5}, {"max_tokens": 5}),
    "max_completion_tokens": (
        Style(),
        {"max_completion_tokens": 6, "max_tokens": 5},
        {"max_tokens": 6},
    ),
    "one stop": (Style(), {"stop": "END"}, {"stop_sequences": ["END"]}),
    "several stops": (Style(), {"stop": ["a", " \n", "", "b"]}, {"stop_sequences": ["a", "b"]}),
    "blank stops": (Style(), {"stop": "\n"}, {"stop_sequences": None}),
    "sampling is left out": (
        Style(),
        {"temperature": 0.5, "top_p": 0.5},
        {"temperature": None, "top_p": None},
    ),
    "sampling where models take it": (
        Style(sampling=True),
        {"temperature": 1.7, "top_p": 0.5},
        {"temperature": 1.0, "top_p": None},
    ),
    "only top_p": (Style(sampling=True), {"top_p": 0.5}, {"top_p": 0.5}),
    "no sampling while thinking": (
        Style(sampling=True),
        {"temperature": 0.5, "reasoning_effort": "low"},
        {"temperature": None},
    ),
    "sampling without thinking": (
        Style(sampling=True),
        {"temperature": 0.5, "reasoning_effort": "none"},
        {"temperature": 0.5, "thinking": {"type": "disabled"}},
    ),
    "plain text": (Style(), {"response_format": {"type": "text"}}, {"output_config": None}),
    "a schema": (
        Style(),
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}},
            }
        },
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    ),
    "any JSON": (
        Style(),
        {"response_format": {"type": "json_object"}},
        {
            "output_config": None,
            "system": [
                text(
                    "Answer with one JSON object and nothing else: no prose around it, no code fence."
                )
            ],
        },
    ),
    "low effort": (
        Style(),
        {"reasoning_effort": "low"},
        {"thinking": ADAPTIVE, "output_config": {"effort": "low"}},
    ),
    "the highest effort, with a schema": (
        Style(),
        {
            "reasoning_effort": "xhigh",
            "response_format": {"type": "json_schema", "json_schema": {"schema": {}}},
        },
        {
            "thinking": ADAPTIVE,
            "output_config": {"format": {"type": "json_schema", "schema": {}}, "effort": "xhigh"},
        },
    ),
    "minimal effort": (
        Style(),
        {"reasoning_effort": "minimal"},
        {"thinking": None, "output_config": {"effort": "low"}},
    ),
    "no effort": (
        Style(),
        {"reasoning_effort": "none"},
        {"thinking": {"type": "disabled"}, "output_config": None},
    ),
    "effort where nobody thinks": (
        Style(thinking="off"),
        {"reasoning_effort": "high"},
        {"thinking": None, "output_config": None},
    ),
    "an older model": (
        BUDGET,
        {"reasoning_effort": "medium"},
        {"thinking": {"type": "enabled", "budget_tokens": 4096}, "output_config": None},
    ),
    "an older model with little room": (
        BUDGET,
        {"reasoning_effort": "high", "max_tokens": 5000},
        {"thinking": {"type": "enabled", "budget_tokens": 2500}},
    ),
    "an older model with no room": (
        BUDGET,
        {"reasoning_effort": "high", "max_tokens": 2047},
        {"thinking": None, "max_tokens": 2047},
    ),
    "thinking in Anthropic's own words": (
        Style(),
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "reasoning_effort": "low"},
        {
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "output_config": {"effort": "low"},
        },
    ),
    "an opaque user": (Style(), {"user": "u-17"}, {"metadata": {"user_id": "u-17"}}),
    "a user by Anthropic's word": (
        Style(),
        {"user": "u-17", "metadata": {"user_id": "u-18", "topic": "x"}},
        {"metadata": {"user_id": "u-18"}},
    ),
    "a user by OpenAI's newer word": (
        Style(),
        {"safety_identifier": "u-19"},
        {"metadata": {"user_id": "u-19"}},
    ),
    "notes of the client": (Style(), {"metadata": {"topic": "x"}}, {"metadata": None}),
    "words of Anthropic's": (
        Style(),
        {
            "top_k": 40,
            "cache_control": {"type": "ephemeral"},
            "service_tier": "standard_only",
            "output_config": {"effort": "max"},
        },
        {
            "top_k": 40,
            "cache_control": {"type": "ephemeral"},
            "service_tier": "standard_only",
            "output_config": {"effort": "max"},
        },
    ),
    "a tier of both": (Style(), {"service_tier": "auto"}, {"service_tier": "auto"}),
    "OpenAI's default tier": (
        Style(),
        {"service_tier": "default"},
        {"service_tier": "standard_only"},
    ),
    "OpenAI's other tiers": (Style(), {"service_tier": "flex"}, {"service_tier": None}),
}


@pytest.mark.parametrize(("style", "options", "expected"), OPTIONS.values(), ids=OPTIONS.keys())
def test_options(style: Style, options: dict[str, Any], expected: dict[str, object]) -> None:
    sent = body(style=style, **options)
    assert {name: sent.get(name) for name in expected} == expected


def test_what_anthropic_cannot_take_is_left_out() -> None:
    unknown: dict[str, Any] = {
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"1": 2},
        "seed": 1,
        "presence_penalty": 1,
        "frequency_penalty": 1,
        "store": True,
        "verbosity": "low",
        "prediction": {"type": "content", "content": "x"},
        "api_base": "http://elsewhere.example",
        "betas": ["x"],
        "mcp_servers": [{"url": "http://elsewhere.example"}],
        "modalities": ["text"],
    }
    assert body(**unknown) == body()


def test_a_forced_choice_is_not_sent_with_thinking() -> None:
    sent = body(tools=[FUNCTION], tool_choice="required", reasoning_effort="high")
    assert sent["tool_choice"] == {"type": "any"}
    assert "thinking" not in sent
    assert sent["output_config"] == {"effort": "high"}


@pytest.mark.parametrize("person", ["ann@example.com", "Ann Example", "x" * 300])
def test_a_person_is_not_named(person: str) -> None:
    named = body(user=person)["metadata"]["user_id"]
    assert re.fullmatch(r"[0-9a-f]{64}", named)
    assert named == body(user=person)["metadata"]["user_id"]
    assert named != body(user=person + "x")["metadata"]["user_id"]


def with_tool(tool: object) -> dict[str, Any]:
    return {"tools": [FUNCTION, tool]}


def with_part(part: object, role: str = "user") -> dict[str, Any]:
    return {"messages": [HI, {"role": role, "content": [text("x"), part]}]}


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "several answers": ({"n": 2}, "n"),
    "old functions": ({"functions": [{}]}, "functions"),
    "speech": ({"modalities": ["text", "audio"]}, "modalities"),
    "a row that is none": ({"messages": [HI, "Hi"]}, "messages[1]"),
    "no role": ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    "a role of the old API": ({"messages": [{"role": "function"}]}, "messages[0].role"),
    "a role that is a list": ({"messages": [{"role": ["user"]}]}, "messages[0].role"),
    "content of the wrong type": ({"messages": [HI, {**HI, "content": 3}]}, "messages[1].content"),
    "a part that is none": (with_part("x"), "messages[1].content[1]"),
    "a part without a type": (with_part({"text": "x"}), "messages[1].content[1].type"),
    "a text that is none": (with_part({"type": "text"}), "messages[1].content[1].text"),
    "speech in a row": (
        with_part({"type": "input_audio", "input_audio": {}}),
        "messages[1].content[1].type",
    ),
    "a picture of the assistant": (
        with_part(image("https://a.example"), "assistant"),
        "messages[1].content[1].type",
    ),
    "a picture of the system": (
        with_part(image("https://a.example"), "system"),
        "messages[1].content[1].type",
    ),
    "a picture without a place": (with_part(image({})), "messages[1].content[1].image_url.url"),
    "a picture in a file": (
        with_part(image({"url": "file:///etc/passwd"})),
        "messages[1].content[1].image_url.url",
    ),
    "a picture of an unknown kind": (
        with_part(image({"url": "data:image/tiff;base64,AAAA"})),
        "messages[1].content[1].image_url.url",
    ),
    "a picture that is not in base64": (
        with_part(image({"url": "data:image/png,AAAA"})),
        "messages[1].content[1].image_url.url",
    ),
    "a file that lies elsewhere": (
        with_part({"type": "file", "file": {"file_id": "f"}}),
        "messages[1].content[1].file.file_data",
    ),
    "a file that is none": (
        with_part({"type": "file", "file": "x"}),
        "messages[1].content[1].file.file_data",
    ),
    "calls that are no list": (
        {"messages": [HI, {"role": "assistant", "tool_calls": {"id": "a"}}]},
        "messages[1].tool_calls",
    ),
    "a call that is none": ({"messages": [HI, calls("x")]}, "messages[1].tool_calls[0]"),  # type: ignore[arg-type]
    "a call without a function": (
        {"messages": [HI, calls({"id": "a", "type": "custom", "custom": {}})]},
        "messages[1].tool_calls[0].function",
    ),
    "a call without an id": (
        {"messages": [HI, calls(call("a"), call(""))]},
        "messages[1].tool_calls[1].id",
    ),
    "a call without a name": (
        {"messages": [HI, calls({"id": "a", "function": {"arguments": "{}"}})]},
        "messages[1].tool_calls[0].function.name",
    ),
    "arguments of the wrong type": (
        {"messages": [HI, calls(call("a", 3))]},
        "messages[1].tool_calls[0].function.arguments",
    ),
    "a result of no call": (
        {"messages": [HI, {"role": "tool", "content": "x"}]},
        "messages[1].tool_call_id",
    ),
    "thinking that is no list": (
        {"messages": [HI, {"role": "assistant", "reasoning_details": "x"}]},
        "messages[1].reasoning_details",
    ),
    "thinking that is no object": (
        {"messages": [HI, {"role": "assistant", "reasoning_details": ["x"]}]},
        "messages[1].reasoning_details[0]",
    ),
    "a tool that is none": (with_tool("x"), "tools[1]"),
    "a tool without a type": (with_tool({"name": "x"}), "tools[1].type"),
    "a custom tool": (with_tool({"type": "custom", "custom": {"name": "x"}}), "tools[1].type"),
    "a tool without a function": (with_tool({"type": "function"}), "tools[1].function"),
    "a tool without a name": (
        with_tool({"type": "function", "function": {}}),
        "tools[1].function.name",
    ),
    "a tool of Anthropic's without a name": (with_tool({"type": "bash_20250124"}), "tools[1].name"),
    "parameters of the wrong type": (
        with_tool({"type": "function", "function": {"name": "x", "parameters": [1]}}),
        "tools[1].function.parameters",
    ),
    "parameters that are no object": (
        with_tool({"type": "function", "function": {"name": "x", "parameters": {"type": "array"}}}),
        "tools[1].function.parameters.type",
    ),
    "an unknown choice": ({"tools": [FUNCTION], "tool_choice": "maybe"}, "tool_choice"),
    "a choice without a name": (
        {"tools": [FUNCTION], "tool_choice": {"type": "function"}},
        "tool_choice",
    ),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "half a token": ({"max_completion_tokens": 0.5}, "max_completion_tokens"),
    "true tokens": ({"max_tokens": True}, "max_tokens"),
    "a stop of the wrong type": ({"stop": 3}, "stop"),
    "a list of stops of the wrong type": ({"stop": ["a", 3]}, "stop"),
    "an unknown format": ({"response_format": {"type": "xml"}}, "response_format.type"),
    "a format of the wrong type": ({"response_format": "json"}, "response_format.type"),
    "no schema": (
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        "response_format.json_schema.schema",
    ),
    "an unknown effort": ({"reasoning_effort": "some"}, "reasoning_effort"),
    "an effort of the wrong type": ({"reasoning_effort": ["low"]}, "reasoning_effort"),
    "thinking of the wrong type": ({"thinking": True}, "thinking"),
    "top_k of the wrong type": ({"top_k": "many"}, "top_k"),
    "a cache of the wrong type": ({"cache_control": "ephemeral"}, "cache_control"),
    "an output of the wrong type": ({"output_config": ["x"]}, "output_config"),
    "a temperature of the wrong type": (
        {"style": Style(sampling=True), "temperature": "hot"},
        "temperature",
    ),
    "a temperature below zero": ({"style": Style(sampling=True), "temperature": -1}, "temperature"),
}


@pytest.mark.parametrize(("asked", "param"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body(**asked)
    assert caught.value.param == param
    assert caught.value.status == 400


def test_no_messages_are_a_mistake() -> None:
    with pytest.raises(InvalidRequest) as caught:
        translate(ChatRequest(model="m", messages=[]), Style())
    assert caught.value.param == "messages"


# Whatever comes

WORDS = """
    role content type text image_url url tool_calls id function name arguments tool_call_id
    reasoning_details signature redacted refusal file file_data system developer user assistant
    tool parameters required auto none json_schema schema data:image/png;base64,AA low
"""
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(WORDS.split())
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
LOOSE_ROWS = st.builds(
    lambda role, row: {**row, "role": role},
    ROLES,
    st.dictionaries(st.sampled_from(WORDS.split()), JSON, max_size=5),
)


def accepts_or_names(request: ChatRequest, style: Style) -> bool:
    """Anything but these two outcomes is raised."""
    try:
        return bool(dump(translate(request, style)))
    except InvalidRequest as error:
        return bool(error.param)


@given(rows=st.lists(LOOSE_ROWS | JSON, max_size=4), tools=st.lists(JSON, max_size=2))
@settings(deadline=None, max_examples=300)
def test_malformed_rows_are_refused_and_never_break(rows: list[Any], tools: list[Any]) -> None:
    request = ChatRequest(model="m", messages=rows, tools=tools)
    assert accepts_or_names(request, Style())


OPTION_NAMES = """
    max_tokens stop temperature top_p tool_choice response_format reasoning_effort thinking
    metadata user top_k cache_control output_config service_tier modalities functions
"""


@given(
    options=st.dictionaries(st.sampled_from(OPTION_NAMES.split()), JSON, max_size=6),
    sampling=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_malformed_options_are_refused_and_never_break(
    options: Mapping[str, Any], sampling: bool
) -> None:
    request = ChatRequest(model="m", messages=[HI], tools=[FUNCTION], options=options)
    assert accepts_or_names(request, Style(sampling=sampling))


TEXTS = st.text(max_size=6)
GOOD_ROWS = st.one_of(
    st.builds(
        lambda role, value: {"role": role, "content": value}, ROLES.filter("tool".__ne__), TEXTS
    ),
    st.builds(
        lambda names, value: calls(*map(call, names), content=value),
        st.lists(st.text(min_size=1, max_size=3), max_size=3),
        TEXTS,
    ),
    st.builds(result, st.text(min_size=1, max_size=3), TEXTS),
)


@given(rows=st.lists(GOOD_ROWS, min_size=1, max_size=8))
@settings(deadline=None, max_examples=300)
def test_every_history_keeps_to_anthropics_rules(rows: list[Row]) -> None:
    messages = body(rows)["messages"]
    roles = [message["role"] for message in messages]
    assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
    ids = [block["id"] for m in messages for block in m["content"] if block["type"] == "tool_use"]
    assert len(set(ids)) == len(ids)
    for message in messages:
        kinds = [block["type"] for block in message["content"]]
        assert kinds
        assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result") or "tool_use" in kinds
        texts = [block["text"] for block in message["content"] if block["type"] == "text"]
        assert all(value.strip() for value in texts)
