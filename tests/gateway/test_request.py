import pytest

from gateway.errors import InvalidRequest
from gateway.request import check_messages

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([USER], id="text"),
        pytest.param([{"role": "user", "content": ""}], id="empty text"),
        pytest.param(
            [{"role": role, "content": "x"} for role in ("system", "developer")], id="roles"
        ),
        pytest.param([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], id="parts"),
        pytest.param(
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            id="an image",
        ),
        pytest.param([{"role": "user", "content": [{"type": "new_kind"}]}], id="an unknown part"),
        pytest.param([{"role": "user", "content": []}], id="no parts"),
        pytest.param([USER, {"role": "assistant", "content": "Hello"}], id="an answer"),
        pytest.param([{"role": "assistant", "content": None, "tool_calls": [CALL]}], id="calls"),
        pytest.param([{"role": "assistant", "tool_calls": [CALL]}], id="calls without content"),
        pytest.param([{"role": "assistant", "content": "", "tool_calls": None}], id="calls null"),
        pytest.param(
            [{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}], id="other calls"
        ),
        pytest.param(
            [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "x"}}]}],
            id="a call without type and arguments",
        ),
        pytest.param([{"role": "tool", "tool_call_id": "1", "content": "x"}], id="a result"),
        pytest.param(
            [{"role": "assistant", "content": "x", "reasoning_content": "y", "anything": 1}],
            id="unknown fields",
        ),
    ],
)
def test_a_history_passes_as_the_same_object(messages: object) -> None:
    assert check_messages(messages) is messages


def _assistant(*calls: object) -> list[object]:
    return [USER, {"role": "assistant", "tool_calls": list(calls)}]


@pytest.mark.parametrize(
    ("messages", "param", "code", "message"),
    [
        pytest.param(
            "Hi",
            "messages",
            "invalid_type",
            "Invalid type for 'messages': expected an array of objects, but got a string instead.",
            id="no list",
        ),
        pytest.param(
            [],
            "messages",
            "empty_array",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            id="empty",
        ),
        pytest.param(
            [USER, "Hi"],
            "messages[1]",
            "invalid_type",
            "Invalid type for 'messages[1]': expected an object, but got a string instead.",
            id="no object",
        ),
        pytest.param(
            [{"content": "Hi"}],
            "messages[0].role",
            "missing_required_parameter",
            "Missing required parameter: 'messages[0].role'.",
            id="no role",
        ),
        pytest.param(
            [{"role": "robot", "content": "Hi"}],
            "messages[0].role",
            "invalid_value",
            "Invalid value: 'robot'. Supported values are: 'assistant', 'developer', 'function', "
            "'system', 'tool', 'user'.",
            id="unknown role",
        ),
        pytest.param(
            [{"role": ["user"], "content": "Hi"}],
            "messages[0].role",
            "invalid_value",
            "Invalid value: ['user']. Supported values are: 'assistant', 'developer', 'function', "
            "'system', 'tool', 'user'.",
            id="a list for a role",
        ),
        pytest.param(
            [{"role": "user"}],
            "messages[0].content",
            "missing_required_parameter",
            "Missing required parameter: 'messages[0].content'.",
            id="no content",
        ),
        pytest.param(
            [{"role": "user", "content": None}],
            "messages[0].content",
            "invalid_type",
            "Invalid type for 'messages[0].content': expected one of a string or array of objects, "
            "but got null instead.",
            id="content null",
        ),
        pytest.param(
            [{"role": "assistant", "content": 3}],
            "messages[0].content",
            "invalid_type",
            "Invalid type for 'messages[0].content': expected one of a string or array of objects, "
            "but got an integer instead.",
            id="content of a number",
        ),
        pytest.param(
            [{"role": "user", "content": {"type": "text"}}],
            "messages[0].content",
            "invalid_type",
            "Invalid type for 'messages[0].content': expected one of a string or array of objects, "
            "but got an object instead.",
            id="one part without a list",
        ),
        pytest.param(
            [{"role": "user", "content": ["Hi"]}],
            "messages[0].content[0]",
            "invalid_type",
            "Invalid type for 'messages[0].content[0]': expected an object, but got a string instead.",
            id="a part of text",
        ),
        pytest.param(
            [{"role": "user", "content": [{"text": "Hi"}]}],
            "messages[0].content[0].type",
            "missing_required_parameter",
            "Missing required parameter: 'messages[0].content[0].type'.",
            id="a part without type",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "text", "text": True}]}],
            "messages[0].content[0].text",
            "invalid_type",
            "Invalid type for 'messages[0].content[0].text': expected a string, "
            "but got a boolean instead.",
            id="text of a boolean",
        ),
        pytest.param(
            [{"role": "tool", "content": "x"}],
            "messages[0].tool_call_id",
            "missing_required_parameter",
            "Missing required parameter: 'messages[0].tool_call_id'.",
            id="a result of nothing",
        ),
        pytest.param(
            [{"role": "assistant", "tool_calls": {"id": "1"}}],
            "messages[0].tool_calls",
            "invalid_type",
            "Invalid type for 'messages[0].tool_calls': expected an array of objects, "
            "but got an object instead.",
            id="calls without a list",
        ),
        pytest.param(
            _assistant(CALL, 2.5),
            "messages[1].tool_calls[1]",
            "invalid_type",
            "Invalid type for 'messages[1].tool_calls[1]': expected an object, "
            "but got a decimal instead.",
            id="a call of a number",
        ),
        pytest.param(
            _assistant({"type": "function"}),
            "messages[1].tool_calls[0].id",
            "missing_required_parameter",
            "Missing required parameter: 'messages[1].tool_calls[0].id'.",
            id="a call without id",
        ),
        pytest.param(
            _assistant({"id": "1", "function": {"arguments": "{}"}}),
            "messages[1].tool_calls[0].function.name",
            "missing_required_parameter",
            "Missing required parameter: 'messages[1].tool_calls[0].function.name'.",
            id="a call without name",
        ),
        pytest.param(
            _assistant({"id": "1", "function": {"name": "x", "arguments": {}}}),
            "messages[1].tool_calls[0].function.arguments",
            "invalid_type",
            "Invalid type for 'messages[1].tool_calls[0].function.arguments': expected a string, "
            "but got an object instead.",
            id="arguments that are not text",
        ),
    ],
)
def test_a_mistake_is_named_in_openais_words(
    messages: object, param: str, code: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_messages(messages)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.message == message


def test_a_message_never_repeats_much_of_what_was_sent() -> None:
    for role in ("x" * 10_000, ["x" * 10_000], {"x": "y" * 10_000}):
        with pytest.raises(InvalidRequest) as caught:
            check_messages([{"role": role, "content": "Hi"}])
        assert len(caught.value.message) < 250
