from typing import Any

import pytest

from adapters.agents.history import Called, Image, Turn, read
from gateway.errors import InvalidRequest
from tests.samples import a_request

USER = {"role": "user", "content": "Hi"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}},
        {"id": "t2", "type": "function", "function": {"name": "hear", "arguments": ""}},
    ],
}
LOOK, HEAR = Called("t1", "look", '{"a": 1}'), Called("t2", "hear", "{}")


def result(call_id: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": call_id, "content": f"of {call_id}"}


@pytest.mark.parametrize(
    ("message", "turn"),
    [
        pytest.param(USER, Turn("user", ("Hi",)), id="text"),
        pytest.param({"role": "user", "content": ""}, Turn("user"), id="no text"),
        pytest.param(
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/x"}},
                    {"type": "text", "text": "b"},
                ],
            },
            Turn("user", ("a", Image("https://example.com/x", b"", "", None), "b")),
            id="parts",
        ),
        pytest.param(
            {
                "role": "user",
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/webp;base64,AAEC", "detail": "high"},
                    }
                ],
            },
            Turn("user", (Image("", b"\0\1\2", "image/webp", "high"),)),
            id="picture",
        ),
    ],
)
def test_a_users_message_is_read(message: dict[str, Any], turn: Turn) -> None:
    assert read(a_request(messages=[message])) == [turn]


def test_turns_of_all_roles_are_read() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        USER,
        CALL,
        result("t2"),
        result("t1"),
    ]
    assert read(a_request(messages=messages)) == [
        Turn("system", ("Be brief.",)),
        Turn("user", ("Hi",)),
        Turn("assistant", (), (LOOK, HEAR)),
        Turn("tool", ("of t2",), answers=HEAR),
        Turn("tool", ("of t1",), answers=LOOK),
    ]


def test_messages_that_say_nothing_are_left_out() -> None:
    messages = [
        {"role": "system", "content": ""},
        USER,
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": []},
        {"role": "user", "content": ""},
    ]
    assert read(a_request(messages=messages)) == [Turn("user", ("Hi",)), Turn("user")]


def test_text_of_several_parts_is_one() -> None:
    assert Turn("user", ("a", Image("u", b"", "", None), "b")).text == "a\nb"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        pytest.param([USER, {"role": "assistant", "content": "Yes"}], "messages", id="answered"),
        pytest.param([{"role": "system", "content": "Be brief."}], "messages", id="no question"),
        pytest.param(
            [USER, {"role": "function", "name": "x", "content": "y"}], "messages[1].role", id="role"
        ),
        pytest.param([USER, result("t9")], "messages[1].tool_call_id", id="result of nothing"),
        pytest.param([USER, CALL, result("t1")], "messages[3]", id="half of the results"),
        pytest.param([USER, CALL, result("t1"), USER], "messages[3]", id="results cut short"),
        pytest.param(
            [USER, CALL, result("t1"), result("t2"), result("t2")],
            "messages[4].tool_call_id",
            id="result twice",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
            "messages[0].content[0].type",
            id="audio",
        ),
        pytest.param(
            [
                {
                    "role": "system",
                    "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c"}}],
                },
                USER,
            ],
            "messages[0].content[0].type",
            id="picture in a system message",
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
                }
            ],
            "messages[0].content[0].image_url.url",
            id="file",
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}
                    ],
                }
            ],
            "messages[0].content[0].image_url.url",
            id="broken picture",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "image_url", "image_url": "https://a.b/c"}]}],
            "messages[0].content[0].type",
            id="picture of the wrong form",
        ),
        pytest.param(
            [USER, {**CALL, "tool_calls": [{"id": "t1", "type": "custom", "custom": {}}]}],
            "messages",
            id="custom tool",
        ),
    ],
)
def test_what_cannot_be_read_is_named(messages: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(a_request(messages=messages))
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        pytest.param(
            {"tools": [{"type": "function", "function": {"name": "dial"}}]},
            "tools",
            "The model 'm' is an agent with tools of its own, and takes none from its caller ('dial').",
            id="tools",
        ),
        pytest.param(
            {"n": 2}, "n", "The model 'm' is an agent, and gives one answer at a time.", id="n"
        ),
        pytest.param(
            {"options": {"response_format": {"type": "json_object"}}},
            "response_format",
            "The model 'm' is an agent: the form of its answers is its own.",
            id="form",
        ),
    ],
)
def test_what_an_agent_does_not_do_is_refused(
    fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(a_request(**fields))
    assert (caught.value.param, caught.value.message) == (param, message)


def test_plain_text_is_a_form_that_every_agent_has() -> None:
    assert read(a_request(options={"response_format": {"type": "text"}}))
