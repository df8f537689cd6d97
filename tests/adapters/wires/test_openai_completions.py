"""Text completions of old: what is taken, what comes back, and that it is what OpenAI's schema says."""

import json
from collections.abc import Callable, Sequence

import pytest

from adapters.wires.openai_completions import OpenAICompletionsWire
from gateway.errors import InvalidRequest, ProviderTruncated
from gateway.events import (
    Complete,
    Delta,
    Event,
    ReasoningDelta,
    RefusalDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.outcome import Outcome
from gateway.request import ChatRequest
from tests.samples import a_call

Valid = Callable[[str, object], None]

WIRE = OpenAICompletionsWire()
SCORE = {"token": "Hé", "logprob": -0.5, "bytes": [72], "top_logprobs": []}
RIVALS = [{"token": "Hé", "logprob": -0.5}, {"token": "Ho", "logprob": -1.5}]


def _parse(**fields: object) -> ChatRequest:
    return WIRE.parse({"model": "m", "prompt": "Once", **fields}, 40)


def _whole(request: ChatRequest, *events: Event) -> dict[str, object]:
    outcome = Outcome()
    outcome.feed(events)
    return dict(WIRE.render(a_call(request), outcome))


def _chunks(request: ChatRequest, *events: Event) -> list[dict[str, object]]:
    encoder = WIRE.encoder(a_call(request))
    data = b"".join(encoder.encode((event,)) for event in events).decode()
    *frames, done, rest = data.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def test_a_prompt_is_what_a_user_says() -> None:
    request = _parse(temperature=0.5, max_tokens=9, stop=["."], anything=1, user=None)
    assert request.messages == [{"role": "user", "content": "Once"}]
    assert request.options == {"temperature": 0.5, "max_tokens": 9, "stop": ["."], "anything": 1}
    assert (request.n, request.stream, request.further, request.size) == (1, False, [], 40)


def test_several_prompts_are_several_histories() -> None:
    request = _parse(prompt=["a", "b", "c"], n=2)
    assert request.messages == [{"role": "user", "content": "a"}]
    assert request.further == [[{"role": "user", "content": text}] for text in "bc"]
    assert request.n == 2


def test_scores_are_asked_for_in_the_words_of_today() -> None:
    assert _parse(logprobs=3).options == {"logprobs": True, "top_logprobs": 3}
    assert _parse(logprobs=0).options == {"logprobs": True, "top_logprobs": 0}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"suffix": ""}, id="an empty suffix"),
        pytest.param({"best_of": 1}, id="the best of one"),
        pytest.param({"best_of": 2, "n": 2}, id="the best of as many as are wanted"),
        pytest.param({"prompt": ""}, id="an empty prompt"),
        pytest.param({"echo": False, "logprobs": 1}, id="scores without an echo"),
    ],
)
def test_what_means_nothing_is_taken(fields: dict[str, object]) -> None:
    assert _parse(**fields).model == "m"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        pytest.param({"prompt": None}, "prompt", "missing_required_parameter", id="no prompt"),
        pytest.param({"prompt": []}, "prompt", "empty_array", id="no prompts"),
        pytest.param({"prompt": [1, 2]}, "prompt", "unsupported_value", id="token ids"),
        pytest.param({"prompt": [[1], [2]]}, "prompt", "unsupported_value", id="lists of them"),
        pytest.param({"prompt": ["a", 1]}, "prompt", "invalid_type", id="a mixture"),
        pytest.param({"prompt": 7}, "prompt", "invalid_type", id="a number"),
        pytest.param({"prompt": ["a"] * 21}, "prompt", "array_above_max_length", id="too many"),
        pytest.param({"suffix": "end"}, "suffix", "unsupported_parameter", id="suffix"),
        pytest.param({"best_of": 3}, "best_of", "unsupported_parameter", id="best of"),
        pytest.param({"echo": True, "logprobs": 1}, "echo", "unsupported_parameter", id="echo"),
        pytest.param({"logprobs": 6}, "logprobs", "integer_above_max_value", id="logprobs"),
        pytest.param({"logprobs": True}, "logprobs", "invalid_type", id="logprobs as in chat"),
        pytest.param({"model": None}, "model", "invalid_type", id="no model"),
        pytest.param({"n": 0}, "n", "integer_below_min_value", id="n"),
        pytest.param({"stop": [1]}, "stop", "invalid_type", id="stop"),
        pytest.param({"stream": "yes"}, "stream", "invalid_type", id="stream"),
    ],
)
def test_a_mistake_is_told(fields: dict[str, object], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _parse(**fields)
    assert (refused.value.param, refused.value.code) == (param, code)


EVENTS: Sequence[Event] = (
    ReasoningDelta("Hm."),
    ToolCallStart("1", "look", "server"),
    ToolCallReady("1", "{}"),
    ToolCallResult("1", "ok", "seen"),
    Delta("Hel"),
    Delta("lo"),
    Complete(usage=Usage(3, 2)),
)


def test_a_whole_answer_is_text_and_nothing_else(valid: Valid) -> None:
    body = _whole(_parse(), *EVENTS)
    valid("CreateCompletionResponse", body)
    assert body["choices"] == [
        {"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert body["usage"]["prompt_tokens"] == 3  # type: ignore[index]  # the schema was checked
    assert str(body["id"]).startswith("cmpl-")


def test_a_stream_is_text_and_nothing_else(valid: Valid) -> None:
    chunks = _chunks(_parse(stream=True), *EVENTS)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hel", "lo", ""]  # type: ignore[index]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]  # type: ignore[index]
    valid("CreateCompletionResponse", chunks[-1])


def test_usage_comes_in_a_chunk_of_its_own_if_asked() -> None:
    *_, last = _chunks(_parse(stream=True, stream_options={"include_usage": True}), *EVENTS)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 5  # type: ignore[index]


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_goes_before_each_choice_of_its_prompt(stream: bool) -> None:
    request = _parse(prompt=["a", "b"], n=2, echo=True, stream=stream)
    end = Complete(further=("stop", "length", "stop"))
    events = [Delta("1", 0), Delta("3", 2), Delta("2", 1), end]
    if stream:
        texts = ["", "", "", ""]
        for chunk in _chunks(request, *events):
            for choice in chunk["choices"]:  # type: ignore[attr-defined]
                texts[choice["index"]] += choice["text"]
    else:
        texts = [choice["text"] for choice in _whole(request, *events)["choices"]]  # type: ignore[attr-defined]
    assert texts == ["a1", "a2", "b3", "b"]


def test_scores_are_columns(valid: Valid) -> None:
    request = _parse(logprobs=2)
    score = {**SCORE, "top_logprobs": RIVALS}
    events = [Delta("Hé", logprobs=[score]), Delta("Hé", logprobs=[score]), Complete()]
    body = _whole(request, *events)
    valid("CreateCompletionResponse", body)
    assert body["choices"][0]["logprobs"] == {  # type: ignore[index]
        "tokens": ["Hé", "Hé"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"Hé": -0.5, "Ho": -1.5}] * 2,
        "text_offset": [0, 2],
    }
    chunks = _chunks(request, *events)
    assert [c["choices"][0]["logprobs"]["text_offset"] for c in chunks[:-1]] == [[0], [2]]  # type: ignore[index]


def test_a_refusal_is_text_and_calls_are_no_reason_to_stop() -> None:
    events = [RefusalDelta("No."), Complete(finish_reason="tool_calls")]
    body = _whole(_parse(), *events)
    assert body["choices"][0]["text"] == "No."  # type: ignore[index]
    assert body["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]


def test_a_cut_stream_ends_in_an_error_and_without_an_end() -> None:
    encoder = WIRE.encoder(a_call(_parse(stream=True)))
    data = encoder.encode((Delta("Hi"), ProviderTruncated("It broke.").event()))
    assert b"event: error\ndata: " in data
    assert b"[DONE]" not in data
