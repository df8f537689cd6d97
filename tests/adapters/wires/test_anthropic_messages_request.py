"""Requests in Anthropic's form: what every provider gets of them, and that Anthropic gets all."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.providers.anthropic_request import Style, count, translate
from adapters.wires.anthropic_messages import AnthropicMessagesWire
from gateway.errors import InvalidRequest
from gateway.request import NATIVE, ChatRequest, check_messages, plain
from gateway.sse import dump

WIRE = AnthropicMessagesWire()
CACHE = {"type": "ephemeral"}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
WEATHER: Mapping[str, Any] = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
FUNCTION = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": WEATHER["input_schema"],
    },
}


def parse(*messages: object, **fields: object) -> ChatRequest:
    body = {"model": "m", "max_tokens": 100, "messages": list(messages), **fields}
    return WIRE.parse(body, 1000)


def user(*content: object) -> dict[str, object]:
    return {"role": "user", "content": list(content)}


def assistant(*content: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(content)}


def text(value: str, **more: object) -> dict[str, object]:
    return {"type": "text", "text": value, **more}


def thinking(value: str, signature: str = "c2ln") -> dict[str, object]:
    return {"type": "thinking", "thinking": value, "signature": signature}


def use(call_id: str, name: str = "weather", **more: object) -> dict[str, object]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {"city": "Oslo"}, **more}


def result(call_id: str, content: object = "rain", **more: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def server_use(
    call_id: object, name: str = "code_execution", code: object = 'calculator({"expression":"1+1"})'
) -> dict[str, object]:
    return {"type": "server_tool_use", "id": call_id, "name": name, "input": {"code": code}}


def program_result(call_id: str, stdout: str = "2", stderr: str = "") -> dict[str, object]:
    return {
        "type": "code_execution_tool_result",
        "tool_use_id": call_id,
        "content": {
            "type": "code_execution_result",
            "stdout": stdout,
            "stderr": stderr,
            "return_code": 0,
            "content": [],
        },
    }


def row_call(call_id: str, arguments: str = '{"city":"Oslo"}', name: str = "weather") -> object:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


HELLO = {"role": "user", "content": "Hello"}


# What every provider gets


@pytest.mark.parametrize(
    ("messages", "rows"),
    [
        pytest.param([HELLO], [HELLO], id="a string"),
        pytest.param([user(text("Hello"))], [HELLO], id="one text"),
        pytest.param(
            [user(text("Hello", cache_control=CACHE))], [HELLO], id="a text with a mark for a cache"
        ),
        pytest.param(
            [user(text("a"), text("b"))],
            [{"role": "user", "content": [text("a"), text("b")]}],
            id="two texts",
        ),
        pytest.param(
            [user({"type": "image", "source": PNG}, text("What is it?"))],
            [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                        },
                        text("What is it?"),
                    ],
                }
            ],
            id="an image",
        ),
        pytest.param(
            [user({"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}})],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
                    ],
                }
            ],
            id="the address of an image",
        ),
        pytest.param(
            [user({"type": "document", "source": PDF, "title": "Terms"})],
            [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "file",
                            "file": {
                                "filename": "Terms",
                                "file_data": "data:application/pdf;base64,JVBERi0=",
                            },
                        }
                    ],
                }
            ],
            id="a document",
        ),
        pytest.param(
            [
                user(
                    {
                        "type": "document",
                        "title": "Terms",
                        "source": {"type": "text", "media_type": "text/plain", "data": "Be kind."},
                    }
                )
            ],
            [{"role": "user", "content": "Terms\n\nBe kind."}],
            id="a document of text",
        ),
        pytest.param(
            [
                user(
                    {
                        "type": "document",
                        "source": {"type": "content", "content": [text("a"), text("b")]},
                    }
                )
            ],
            [{"role": "user", "content": [text("a"), text("b")]}],
            id="a document of blocks",
        ),
        pytest.param(
            [user({"type": "document", "source": {"type": "file", "file_id": "file_1"}})],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
                    ],
                }
            ],
            id="a document that only Anthropic has",
        ),
        pytest.param(
            [
                user(
                    {
                        "type": "search_result",
                        "title": "Tides",
                        "source": "https://tides.example",
                        "content": [text("High at noon.")],
                    }
                )
            ],
            [{"role": "user", "content": "Tides\nhttps://tides.example\n\nHigh at noon."}],
            id="a search result",
        ),
        pytest.param(
            [HELLO, assistant(text("Hel"), text("lo"))],
            [HELLO, {"role": "assistant", "content": "Hello"}],
            id="an answer in pieces",
        ),
        pytest.param(
            [HELLO, assistant(thinking("Hm."), {"type": "redacted_thinking", "data": "eA=="})],
            [HELLO, {"role": "assistant", "content": ""}],
            id="thinking",
        ),
        pytest.param(
            [HELLO, assistant(thinking("Hm. ", ""), thinking("So.", ""), text("Yes."))],
            [
                HELLO,
                {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm. So."},
            ],
            id="thinking that nobody signed",
        ),
        pytest.param(
            [HELLO, assistant(text("Wait."), use("a"), use("b")), user(result("a"), result("b"))],
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": "Wait.",
                    "tool_calls": [row_call("a"), row_call("b")],
                },
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
                {"role": "tool", "tool_call_id": "b", "content": "rain"},
            ],
            id="calls and their results",
        ),
        pytest.param(
            [HELLO, assistant(use("a")), user(text("Well?"), result("a", [text("x"), text("y")]))],
            [
                HELLO,
                {"role": "assistant", "content": None, "tool_calls": [row_call("a")]},
                {"role": "tool", "tool_call_id": "a", "content": "x\ny"},
                {"role": "user", "content": "Well?"},
            ],
            id="a text before a result",
        ),
        pytest.param(
            [
                HELLO,
                assistant(use("a")),
                user(result("a", [text("see"), {"type": "image", "source": PNG}], is_error=True)),
            ],
            [
                HELLO,
                {"role": "assistant", "content": None, "tool_calls": [row_call("a")]},
                {"role": "tool", "tool_call_id": "a", "content": "see"},
                {
                    "role": "user",
                    "content": [
                        text("What the tool call a returned:"),
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                        },
                    ],
                },
            ],
            id="an image in a result",
        ),
        pytest.param(
            [HELLO, assistant(use("a")), user({"type": "tool_result", "tool_use_id": "a"})],
            [
                HELLO,
                {"role": "assistant", "content": None, "tool_calls": [row_call("a")]},
                {"role": "tool", "tool_call_id": "a", "content": ""},
            ],
            id="an empty result",
        ),
        pytest.param(
            [HELLO, {"role": "system", "content": "Be brief."}, HELLO],
            [HELLO, {"role": "system", "content": "Be brief."}, HELLO],
            id="the system in between",
        ),
        pytest.param([user()], [{"role": "user", "content": ""}], id="nothing"),
    ],
)
def test_messages_become_rows(messages: list[Any], rows: list[Any]) -> None:
    request = plain(parse(*messages))
    assert request.messages == rows
    check_messages(request.messages)


@pytest.mark.parametrize(
    ("system", "row"),
    [
        ("Be brief.", {"role": "system", "content": "Be brief."}),
        ([text("Be brief.", cache_control=CACHE)], {"role": "system", "content": "Be brief."}),
        ([text("a"), text("b")], {"role": "system", "content": [text("a"), text("b")]}),
        ("", None),
        ([], None),
    ],
    ids=["a string", "one block", "two blocks", "an empty string", "no block"],
)
def test_the_systems_words_come_first(system: object, row: object) -> None:
    request = plain(parse(HELLO, system=system))
    assert request.messages == ([HELLO] if row is None else [row, HELLO])


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param(
            {"temperature": 0.5, "top_p": 1}, {"temperature": 0.5, "top_p": 1}, id="chance"
        ),
        pytest.param({"stop_sequences": ["END"]}, {"stop": ["END"]}, id="stops"),
        pytest.param({"metadata": {"user_id": "u1"}}, {"user": "u1"}, id="a user"),
        pytest.param({"metadata": {"user_id": "u" * 65}}, {}, id="a user with too long a name"),
        pytest.param(
            {"top_k": 5, "service_tier": "auto", "thinking": None}, {}, id="Anthropic's own"
        ),
        pytest.param(
            {"output_config": {"effort": "max"}}, {"reasoning_effort": "xhigh"}, id="effort"
        ),
        pytest.param(
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"reasoning_effort": "low"},
            id="a small budget",
        ),
        pytest.param(
            {"thinking": {"type": "enabled", "budget_tokens": 31999}},
            {"reasoning_effort": "high"},
            id="a large budget",
        ),
        pytest.param({"thinking": {"type": "adaptive"}}, {}, id="adaptive"),
        pytest.param({"thinking": {"type": "disabled"}}, {}, id="no thinking"),
        pytest.param(
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "answer",
                        "schema": {"type": "object"},
                        "strict": True,
                    },
                }
            },
            id="a format",
        ),
        pytest.param({"context_management": {"edits": []}, "made_up": 1}, {}, id="unknown"),
    ],
)
def test_fields_become_options(fields: dict[str, object], options: dict[str, object]) -> None:
    request = plain(parse(HELLO, **fields))
    assert request.options == {"max_tokens": 100, **options}
    assert NATIVE not in request.options


@pytest.mark.parametrize(
    ("choice", "options"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            {
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
                "parallel_tool_calls": False,
            },
        ),
        (None, {}),
    ],
    ids=["auto", "none", "any", "one, once", "not said"],
)
def test_tools_and_their_choice_become_openais(choice: object, options: dict[str, object]) -> None:
    tool = {**WEATHER, "cache_control": CACHE}
    request = plain(parse(HELLO, tools=[tool], tool_choice=choice))
    assert request.tools == [FUNCTION]
    assert request.options == {"max_tokens": 100, **options}


def test_the_body_says_whether_to_stream() -> None:
    assert parse(HELLO, stream=True).stream is True
    assert parse(HELLO).stream is False


# What Anthropic gets


def sent(style: Style, *messages: object, **fields: object) -> dict[str, object]:
    return translate(parse(*messages, **fields), style)


CONVERSATIONS = {
    "texts": [user(text("a", cache_control=CACHE), text("b"))],
    "an image with more": [user({"type": "image", "source": PNG, "cache_control": CACHE})],
    "documents": [
        user(
            {"type": "document", "source": PDF, "citations": {"enabled": True}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Be kind."},
                "context": "A rule",
            },
        )
    ],
    "thinking between calls": [
        user(text("Go")),
        assistant(
            thinking("One."),
            text("First."),
            use("a"),
            thinking("Two.", "c2lnMg=="),
            {"type": "redacted_thinking", "data": "eA=="},
            use("b"),
        ),
        user(result("a", [text("rain")]), result("b", [text("sun")])),
    ],
    "marks for a cache": [
        user(text("Go")),
        assistant(text("Yes."), use("a", cache_control=CACHE)),
        user(result("a", [text("x"), text("y")], cache_control=CACHE)),
    ],
    "a text before a result": [
        user(text("Go")),
        assistant(use("a"), use("b")),
        user(text("Here:"), result("a"), text("and"), result("b", is_error=True), text("Well?")),
    ],
    "an image in a result": [
        user(text("Go")),
        assistant(use("a")),
        user(result("a", [{"type": "image", "source": PNG}]), text("Well?")),
    ],
    "tools that Anthropic ran": [
        user(text("Go")),
        assistant(
            text("Looking."),
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": [
                    {
                        "type": "web_search_result",
                        "url": "https://a.example",
                        "title": "A",
                        "encrypted_content": "eA==",
                    }
                ],
            },
            text("So.", citations=[{"type": "web_search_result_location", "encrypted_index": "e"}]),
        ),
        user(text("And?")),
    ],
    "the system in between": [
        user(text("Go")),
        {"role": "system", "content": [text("Be brief.", cache_control=CACHE)]},
        user(text("And?")),
    ],
    "a block yet to be invented": [
        user(text("Go"), {"type": "hologram", "data": "x"}),
        assistant({"type": "hologram", "data": "y"}),
        user(text("And?")),
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_anthropic_gets_the_blocks_unchanged(name: str) -> None:
    messages = CONVERSATIONS[name]
    assert sent(Style(), *messages)["messages"] == messages


@pytest.mark.parametrize(
    "fields",
    [
        {"system": [text("Be brief.", cache_control=CACHE), text("Be kind.")]},
        {"tools": [{**WEATHER, "cache_control": CACHE, "input_examples": [{"city": "Oslo"}]}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]},
        {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "weather"}},
        {"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}},
        {"thinking": {"type": "disabled"}},
        {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {}}}},
        {"temperature": 0.5, "top_p": 0.9, "top_k": 40},
        {"stop_sequences": ["END"], "service_tier": "standard_only", "cache_control": CACHE},
        {"metadata": {"user_id": "u" * 200}},
        {"inference_geo": "eu", "container": "c1"},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_anthropic_gets_the_fields_unchanged(fields: dict[str, object]) -> None:
    assert sent(Style(), HELLO, **fields) == {
        "model": "m",
        "max_tokens": 100,
        "messages": [user(text("Hello"))],
        "stream": True,
        **fields,
    }


def test_unsigned_thinking_goes_back_only_to_those_that_do_not_sign() -> None:
    messages = [user(text("Go")), assistant(thinking("Hm.", ""), text("Yes.")), user(text("And?"))]
    assert sent(Style(unsigned=True), *messages)["messages"] == messages
    assert sent(Style(), *messages)["messages"] == [
        messages[0],
        assistant(text("Yes.")),
        messages[2],
    ]


def test_a_prompt_is_counted_without_what_is_not_part_of_it() -> None:
    body = {"model": "m", "messages": [HELLO], "tools": [WEATHER], "system": "Be brief."}
    assert count(WIRE.parse_count(body, 100), Style()) == {
        "model": "m",
        "messages": [user(text("Hello"))],
        "tools": [WEATHER],
        "system": [text("Be brief.")],
    }


# What comes back of tools of ours


def test_calls_of_ours_come_back_as_what_the_model_was_told() -> None:
    replayed = assistant(
        thinking("One."),
        text("Let me see. "),
        server_use("srvtoolu_gw_a"),
        server_use("srvtoolu_gw_b"),
        program_result("srvtoolu_gw_b", "", "No such thing."),
        program_result("srvtoolu_gw_a"),
        thinking("Two."),
        text("It is 2."),
    )
    arguments = '{"expression":"1+1"}'
    assert plain(parse(HELLO, replayed, HELLO)).messages == [
        HELLO,
        {
            "role": "assistant",
            "content": "Let me see. ",
            "tool_calls": [
                row_call("a", arguments, "calculator"),
                row_call("b", arguments, "calculator"),
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "No such thing."},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
        {"role": "assistant", "content": "It is 2."},
        HELLO,
    ]
    body = translate(parse(HELLO, replayed, HELLO), Style())
    roles = [message["role"] for message in body["messages"]]  # type: ignore[attr-defined]
    assert roles == ["user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("blocks", "rounds"),
    [
        pytest.param(
            [server_use("srvtoolu_gw_a"), use("c"), program_result("srvtoolu_gw_a")],
            [["a", "c"], "a", "c"],
            id="in one round",
        ),
        pytest.param(
            [server_use("srvtoolu_gw_a"), program_result("srvtoolu_gw_a"), use("c")],
            [["a"], "a", ["c"], "c"],
            id="in two rounds",
        ),
        pytest.param(
            [use("c"), server_use("srvtoolu_gw_a"), program_result("srvtoolu_gw_a"), text("So.")],
            [["a"], "a", ["c"], "c"],
            id="in an order that is none",
        ),
    ],
)
def test_calls_of_both_kinds_come_back_in_their_rounds(
    blocks: list[object], rounds: list[object]
) -> None:
    rows = plain(parse(HELLO, assistant(*blocks), user(result("c")))).messages
    calls = [
        [call["id"] for call in row["tool_calls"]]  # type: ignore[attr-defined]
        if "tool_calls" in row
        else row["tool_call_id"]
        for row in rows[1:]
    ]
    assert calls == rounds


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param([server_use("srvtoolu_gw_a")], id="no result"),
        pytest.param(
            [server_use("srvtoolu_gw_a"), program_result("srvtoolu_gw_a", "")], id="not shown"
        ),
        pytest.param([program_result("srvtoolu_gw_a")], id="no call"),
    ],
)
def test_a_call_of_ours_that_was_not_shown_whole_is_left_out(blocks: list[object]) -> None:
    rows = plain(parse(HELLO, assistant(*blocks, text("Yes.")), HELLO)).messages
    assert rows[1:] == [{"role": "assistant", "content": "Yes."}, HELLO]


@pytest.mark.parametrize(
    ("code", "name", "arguments"),
    [
        ("now()", "now", "{}"),
        ('f({"a":")("})', "f", '{"a":")("}'),
        ("print(1", "code_execution", '{"code":"print(1"}'),
        (5, "code_execution", '{"code":5}'),
    ],
    ids=["no arguments", "brackets", "no call", "no text"],
)
def test_a_line_of_ours_comes_back_as_the_call_that_it_says(
    code: object, name: str, arguments: str
) -> None:
    blocks = [server_use("srvtoolu_gw_a", code=code), program_result("srvtoolu_gw_a")]
    rows = plain(parse(HELLO, assistant(*blocks))).messages
    assert rows[1]["tool_calls"] == [row_call("a", arguments, name)]


def test_a_search_of_ours_comes_back_with_the_pages_it_found() -> None:
    search = {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_gw_a",
        "content": [
            {
                "type": "web_search_result",
                "title": "Tides",
                "url": "https://tides.example",
                "encrypted_content": "High at noon.",
                "page_age": None,
            },
        ],
    }
    said = assistant(server_use("srvtoolu_gw_a", "web_search"), search, text("At noon."))
    rows = plain(parse(HELLO, said)).messages
    assert rows[2] == {
        "role": "tool",
        "tool_call_id": "a",
        "content": "1. Tides\n   https://tides.example\n   High at noon.",
    }


def test_citations_that_we_wrote_are_not_sent_to_anthropic() -> None:
    cited = {"type": "web_search_result_location", "url": "u", "encrypted_index": ""}
    body = sent(Style(), HELLO, assistant(text("Yes.", citations=[cited])), HELLO)
    assert body["messages"][1] == assistant(text("Yes."))  # type: ignore[index]


# Mistakes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": None}, "model: Input should be a valid string"),
        ({"model": ""}, "model: String should have at least 1 character"),
        ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"temperature": 2}, "temperature: Input should be less than or equal to 1"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"stop_sequences": "END"}, "stop_sequences: Input should be a valid list"),
        ({"messages": "Hi"}, "messages: Input should be a valid list"),
        ({"messages": []}, "messages: Input should be a list with at least 1 message"),
        (
            {"messages": [{"role": "system", "content": ""}]},
            "messages: Input should be a list with at least 1 message",
        ),
        ({"messages": ["Hi"]}, "messages.0: Input should be an object"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role: Field required"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        (
            {"messages": [{"role": "tool", "content": "Hi"}]},
            "messages.0.role: Input should be 'user', 'assistant' or 'system'",
        ),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages.0.content: Input should be a valid string or a list of content blocks",
        ),
        ({"messages": [user("Hi")]}, "messages.0.content.0: Input should be an object"),
        ({"messages": [user({})]}, "messages.0.content.0.type: Field required"),
        ({"messages": [user({"type": "text"})]}, "messages.0.content.0.text: Field required"),
        (
            {"messages": [user({"type": "image"})]},
            "messages.0.content.0.source: Field required",
        ),
        (
            {"messages": [user({"type": "image", "source": {"type": "url"}})]},
            "messages.0.content.0.source.url: Field required",
        ),
        (
            {"messages": [user({"type": "tool_result"})]},
            "messages.0.content.0.tool_use_id: Field required",
        ),
        (
            {"messages": [user(result("a", 5))]},
            "messages.0.content.0.content: "
            "Input should be a valid string or a list of content blocks",
        ),
        (
            {"messages": [user(use("a"))]},
            "messages.0.content.0.type: 'tool_use' blocks are only allowed in assistant messages",
        ),
        (
            {"messages": [assistant(result("a"))]},
            "messages.0.content.0.type: 'tool_result' blocks are only allowed in user messages",
        ),
        (
            {"messages": [assistant({**use("a"), "input": "{}"})]},
            "messages.0.content.0.input: Input should be an object",
        ),
        ({"system": 5}, "system: Input should be a valid string or a list of content blocks"),
        ({"system": [{"type": "image"}]}, "system.0.type: Input should be 'text'"),
        ({"tools": [{}]}, "tools.0.name: Field required"),
        ({"tools": [{"name": "a"}]}, "tools.0.input_schema: Field required"),
        (
            {"tools": [{"name": "a", "input_schema": "x"}]},
            "tools.0.input_schema: Input should be an object",
        ),
        ({"tools": [{"name": "a", "type": 5}]}, "tools.0.type: Input should be a valid string"),
        (
            {"tool_choice": {"type": "auto"}},
            "tool_choice: may only be specified while providing tools",
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "time"}},
            "tool_choice.tool.name: Tool 'time' not found in provided tools",
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "some"}},
            "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'",
        ),
        ({"thinking": {}}, "thinking.type: Field required"),
        (
            {"thinking": {"type": "enabled"}},
            "thinking.enabled.budget_tokens: Input should be a valid integer",
        ),
        (
            {"output_config": {"effort": "most"}},
            "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        (
            {"thread": {"type": "create"}},
            "thread: not supported; send the whole conversation",
        ),
        (
            {"mcp_servers": [{"url": "https://a.example"}]},
            "mcp_servers: not supported; the operator connects MCP servers",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_is_named_in_anthropics_words(body: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRE.parse({"model": "m", "max_tokens": 9, "messages": [HELLO], **body}, 100)
    assert caught.value.message == message
    assert caught.value.param == message.split(":")[0]


@pytest.mark.parametrize("field", ["model", "max_tokens", "messages"])
def test_a_field_too_few_is_named(field: str) -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [HELLO]}
    with pytest.raises(InvalidRequest, match=f"^{field}: Field required$"):
        WIRE.parse({name: value for name, value in body.items() if name != field}, 100)


# Whatever comes

_WORDS = st.sampled_from(
    [
        *("type", "text", "image", "source", "base64", "url", "data", "media_type", "document"),
        *("content", "tool_use", "tool_result", "tool_use_id", "id", "name", "input", "thinking"),
        *("signature", "redacted_thinking", "server_tool_use", "code_execution_tool_result"),
        *("srvtoolu_gw_a", "role", "user", "assistant", "system", "citations", "encrypted_index"),
        *("web_search_tool_result", "stdout", "error_code", "search_result", "title", "file"),
        *("code_execution_result", "is_error", "cache_control", "", "a"),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=6),
    max_leaves=8,
)
_TYPES = st.sampled_from(
    [
        *("text", "image", "document", "tool_use", "tool_result", "thinking", "search_result"),
        *("redacted_thinking", "server_tool_use", "code_execution_tool_result"),
        *("web_search_tool_result", "hologram"),
    ]
)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": _WORDS | _VALUES,
    "tool_use_id": _WORDS | _VALUES,
    **dict.fromkeys(("text", "name", "thinking", "data", "title", "signature"), _WORDS | _VALUES),
    "input": st.dictionaries(_WORDS, _WORDS) | _VALUES,
    "source": st.fixed_dictionaries({"type": _WORDS}, optional={"data": _WORDS}) | _VALUES,
    "content": _VALUES,
    "citations": _VALUES,
}
_BLOCKS = st.lists(st.fixed_dictionaries({"type": _TYPES}, optional=_FIELDS), max_size=5)
_MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": _BLOCKS | _VALUES}
)


@settings(max_examples=100, deadline=None)
@example(messages=[{"role": "assistant", "content": [server_use([])]}], further={})
@given(
    messages=st.lists(_MESSAGES, max_size=5),
    further=st.dictionaries(
        st.sampled_from(
            ["system", "tools", "tool_choice", "thinking", "output_config", "metadata"]
        ),
        _VALUES,
        max_size=3,
    ),
)
def test_whatever_comes_is_refused_or_understood(
    messages: list[object], further: dict[str, object]
) -> None:
    try:
        request = parse(*messages, **further)
    except InvalidRequest:
        return
    understood = plain(request)
    check_messages(understood.messages)
    dump([understood.messages, understood.tools, understood.options])
    with suppress(InvalidRequest):
        dump(translate(request, Style()))
