from collections.abc import Mapping

import pytest

from adapters.wires.openai_chat import OpenAIChatWire
from gateway.errors import InvalidRequest
from gateway.request import ChatRequest

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def _parse(**fields: object) -> ChatRequest:
    return OpenAIChatWire().parse({"model": "m", "messages": [USER], **fields}, 99)


def test_the_least_that_can_be_asked() -> None:
    request = _parse()
    assert request == ChatRequest(model="m", messages=[USER], tools=[], size=99)
    assert (request.n, request.stream, request.include_usage) == (1, False, False)


def test_fields_that_the_gateway_reads_are_taken_and_all_others_passed_on_as_they_came() -> None:
    options = {
        "temperature": 1,
        "max_tokens": 5,
        "stop": ["a", "b"],
        "tool_choice": "required",
        "response_format": {"type": "json_object"},
        "logit_bias": {"50256": -100},
        "seed": 7,
        "something_new": {"a": [1]},
    }
    request = _parse(
        tools=[TOOL],
        n=2,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        **options,
    )
    assert request.options == options
    assert request.tools == [TOOL]
    assert (request.n, request.stream, request.include_usage) == (2, True, True)


def test_null_is_as_not_given() -> None:
    names = ("tools", "n", "stream", "stream_options", "temperature", "stop", "tool_choice", "user")
    assert _parse(**dict.fromkeys(names)) == _parse()


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 2.0},
        {"top_p": 1},
        {"n": 128},
        {"presence_penalty": -2},
        {"max_completion_tokens": 1},
        {"top_logprobs": 20, "logprobs": True},
        {"stop": "x"},
        {"stop": ["a", "b", "c", "d"]},
        {"stop": []},
        {"tools": []},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "function": {"name": "x"}}]},
        {"tools": [{"type": "function", "function": {"name": "x", "parameters": None}}]},
        {"tools": [TOOL] * 128},
        {"tool_choice": "none"},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}},
        {"stream_options": {}},
        {"stream_options": {"include_usage": None}},
        {"metadata": {"a": "b"}},
        {"seed": -1},
        {"model": "x" * 256},
    ],
    ids=str,
)
def test_what_openai_takes_is_taken(fields: Mapping[str, object]) -> None:
    _parse(**fields)


def _type(param: str, expected: str, got: str) -> tuple[str, str, str]:
    said = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
    return param, "invalid_type", said


def _missing(param: str) -> tuple[str, str, str]:
    return param, "missing_required_parameter", f"Missing required parameter: '{param}'."


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": None}, _type("model", "a string", "null")),
        ({"model": 5}, _type("model", "a string", "an integer")),
        ({"model": ""}, ("model", None, "you must provide a model parameter")),
        (
            {"model": "x" * 257},
            (
                "model",
                "invalid_value",
                "Invalid 'model': String should have at most 256 characters.",
            ),
        ),
        ({"messages": None}, _type("messages", "an array of objects", "null")),
        ({"messages": "Hi"}, _type("messages", "an array of objects", "a string")),
        ({"messages": [1]}, _type("messages[0]", "an object", "an integer")),
        ({"stream": "yes"}, _type("stream", "a boolean", "a string")),
        ({"stream": 1}, _type("stream", "a boolean", "an integer")),
        ({"stream_options": True}, _type("stream_options", "an object", "a boolean")),
        (
            {"stream_options": {"include_usage": "yes"}},
            _type("stream_options.include_usage", "a boolean", "a string"),
        ),
        ({"n": 1.5}, _type("n", "an integer", "a decimal")),
        ({"n": "1"}, _type("n", "an integer", "a string")),
        ({"n": True}, _type("n", "an integer", "a boolean")),
        (
            {"n": 0},
            (
                "n",
                "integer_below_min_value",
                "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
            ),
        ),
        (
            {"n": 129},
            (
                "n",
                "integer_above_max_value",
                "Invalid 'n': integer above maximum value. "
                "Expected a value <= 128, but got 129 instead.",
            ),
        ),
        (
            {"temperature": 3},
            (
                "temperature",
                "decimal_above_max_value",
                "Invalid 'temperature': decimal above maximum value. "
                "Expected a value <= 2, but got 3 instead.",
            ),
        ),
        (
            {"top_p": -0.5},
            (
                "top_p",
                "decimal_below_min_value",
                "Invalid 'top_p': decimal below minimum value. "
                "Expected a value >= 0, but got -0.5 instead.",
            ),
        ),
        ({"temperature": "hot"}, _type("temperature", "a decimal", "a string")),
        (
            {"max_tokens": 0},
            (
                "max_tokens",
                "integer_below_min_value",
                "Invalid 'max_tokens': integer below minimum value. "
                "Expected a value >= 1, but got 0 instead.",
            ),
        ),
        ({"max_tokens": 1.2345678901234568e29}, _type("max_tokens", "an integer", "a decimal")),
        ({"seed": "x"}, _type("seed", "an integer", "a string")),
        ({"logit_bias": {"1": "x"}}, _type("logit_bias.1", "a decimal", "a string")),
        ({"logit_bias": []}, _type("logit_bias", "an object", "an array")),
        ({"response_format": "json"}, _type("response_format", "an object", "a string")),
        ({"user": 5}, _type("user", "a string", "an integer")),
        ({"stop": 5}, _type("stop", "one of a string or array of strings", "an integer")),
        ({"stop": [5]}, _type("stop", "one of a string or array of strings", "an array")),
        (
            {"stop": ["a"] * 5},
            (
                "stop",
                "array_above_max_length",
                "Invalid 'stop': array too long. Expected an array with maximum length 4, "
                "but got an array with length 5 instead.",
            ),
        ),
        ({"tools": {}}, _type("tools", "an array of objects", "an object")),
        ({"tools": ["look"]}, _type("tools[0]", "an object", "a string")),
        ({"tools": [TOOL, {}]}, _missing("tools[1].type")),
        ({"tools": [{"type": "function"}]}, _missing("tools[0].function")),
        ({"tools": [{"type": "function", "function": {}}]}, _missing("tools[0].function.name")),
        (
            {"tools": [{"type": "function", "function": {"name": ""}}]},
            _missing("tools[0].function.name"),
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": []}}]},
            _type("tools[0].function.parameters", "an object", "an array"),
        ),
        (
            {"tools": [TOOL] * 129},
            (
                "tools",
                "array_above_max_length",
                "Invalid 'tools': array too long. Expected an array with maximum length 128, "
                "but got an array with length 129 instead.",
            ),
        ),
        (
            {"tool_choice": "any"},
            (
                "tool_choice",
                "invalid_value",
                "Invalid value: 'any'. Supported values are: 'none', 'auto', and 'required'.",
            ),
        ),
        (
            {"tool_choice": "required"},
            ("tool_choice", None, "'tool_choice' is only allowed when 'tools' are specified."),
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}},
            (
                "tool_choice",
                "invalid_value",
                "Invalid value for 'tool_choice': function 'no' is not in 'tools'.",
            ),
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            (
                "tools[0].function.name",
                "invalid_value",
                "Invalid 'tools[0].function.name': string does not match pattern. "
                "Expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'.",
            ),
        ),
        (
            {"functions": [{"name": "old"}]},
            (
                "functions",
                "unsupported_parameter",
                "'functions' is not supported; use 'tools'.",
            ),
        ),
        ({"tool_choice": 5}, _type("tool_choice", "one of a string or object", "an integer")),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else None,
)
def test_a_mistake_is_named_in_openais_words(
    fields: Mapping[str, object], told: tuple[str, str | None, str]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _parse(**fields)
    error = caught.value
    assert (error.param, error.code, error.message) == told
    assert (error.status, error.type) == (400, "invalid_request_error")


@pytest.mark.parametrize("field", ["model", "messages"])
def test_what_is_needed_is_missed(field: str) -> None:
    body = {"model": "m", "messages": [USER]}
    del body[field]
    with pytest.raises(InvalidRequest) as caught:
        OpenAIChatWire().parse(body, 0)
    assert (caught.value.param, caught.value.code, caught.value.message) == _missing(field)


def test_an_error_body_has_all_four_keys() -> None:
    error = InvalidRequest("No.").event()
    assert OpenAIChatWire().render_error(error) == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }


def test_it_is_served_wherever_clients_look_for_it() -> None:
    bases = ("/v1", "/api", "")
    path = "/chat/completions"
    assert set(OpenAIChatWire.paths) == {
        f"{base}{path}{more}" for base in bases for more in ("", "/", path, f"{path}/")
    }
