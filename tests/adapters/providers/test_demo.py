import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from adapters.providers.demo import MODELS, DemoProvider
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderFailed,
    ProviderTruncated,
    UnknownModel,
)
from gateway.events import (
    Complete,
    Delta,
    Event,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStart,
)
from gateway.outcome import Choice, Outcome
from gateway.ports import Provider
from gateway.request import ChatRequest, Message

RESULTS = """Search results for 'tides'. They are third-party content.

1. Tides [in] Oslo
   https://a.example/t_(1)
   High at noon

2. Second page
   https://b.example/

End of the search results."""


def function(name: str, description: str = "", **properties: object) -> Mapping[str, object]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


STRING = {"type": "string"}
CLOCK = function("current_time", "Tells the current date and time.", timezone=STRING)
CALCULATOR = function("calculator", "Computes an expression.", expression=STRING)
SEARCH = function("web_search", "Searches the web.", query=STRING)
BUILT_IN = [CLOCK, CALCULATOR, SEARCH]
FORMS = {
    "calculator": {
        "type": "object",
        "required": ["expression"],
        "properties": {"expression": STRING},
    },
    "web_search": {"type": "object", "required": ["query"], "properties": {"query": STRING}},
    "send_email": {"type": "object", "required": ["to", "subject"]},
    "get_weather": {"type": "object", "required": ["location", "unit"]},
}
WEATHER = function(
    "get_weather", "Current temperature for a location.", location=STRING, unit={"enum": ["c", "f"]}
)
EMAIL = function("send_email", "Sends an email.", to=STRING, subject=STRING)


def ask(text: object, *, model: str = "demo", n: int = 1, **options: object) -> ChatRequest:
    tools = options.pop("tools", ())
    assert isinstance(tools, Sequence)
    messages = [{"role": "user", "content": text}]
    return ChatRequest(model=model, messages=messages, tools=tools, options=options, n=n)


def talk(*rows: tuple[str, str]) -> ChatRequest:
    return ChatRequest(
        model="demo", messages=[{"role": role, "content": text} for role, text in rows]
    )


async def batches(request: ChatRequest, pause_ms: float = 0) -> list[Sequence[Event]]:
    provider = DemoProvider("demo", {"pause_ms": pause_ms})
    async with aclosing(provider.stream(request)) as stream:
        return [batch async for batch in stream]


async def events(request: ChatRequest) -> list[Event]:
    return [event for batch in await batches(request) for event in batch]


async def outcome(request: ChatRequest) -> Outcome:
    whole = Outcome()
    for batch in await batches(request):
        assert batch
        whole.feed(batch)
    return whole


async def answer(request: ChatRequest) -> Choice:
    return (await outcome(request)).choices[0]


async def said(request: ChatRequest) -> str:
    return "".join((await answer(request)).text)


def calls(choice: Choice) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in choice.tool_calls]


def follow(request: ChatRequest, choice: Choice, *outputs: str) -> ChatRequest:
    """The next round, as the engine asks for it."""
    rows: list[Message] = [
        *request.messages,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call.call_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in choice.tool_calls
            ],
        },
    ]
    for call, output in zip(choice.tool_calls, outputs, strict=True):
        rows.append({"role": "tool", "tool_call_id": call.call_id, "content": output})
    return ChatRequest(
        model=request.model, messages=rows, tools=request.tools, options=request.options
    )


def test_it_is_a_provider() -> None:
    provider: Provider = DemoProvider("demo", {"connect_timeout": 5})
    assert provider.name == "demo"


async def test_it_thinks_then_streams_a_word_at_a_time_then_completes() -> None:
    given = await events(ask("hi"))
    kinds = [type(event) for event in given]
    thoughts, words = kinds.count(ReasoningDelta), kinds.count(Delta)
    assert kinds == [ReasoningDelta] * thoughts + [Delta] * words + [Complete]
    assert thoughts > 3
    assert words > 20
    assert all(event.text.split() for event in given if isinstance(event, Delta))
    assert all(len(batch) == 1 for batch in await batches(ask("hi"), pause_ms=0.1))


async def test_usage_is_the_count_of_what_was_streamed() -> None:
    request = talk(("system", "You are kind."), ("user", "hi there"))
    given = await events(request)
    end = given[-1]
    assert isinstance(end, Complete)
    assert end.usage
    assert end.usage.input_tokens == 5
    assert end.usage.output_tokens == len(given) - 1
    assert end.usage.reasoning_tokens == sum(isinstance(event, ReasoningDelta) for event in given)


async def test_the_same_request_gets_the_same_answer() -> None:
    request = ask("write 40 words", logprobs=True, top_logprobs=3)
    assert await events(request) == await events(request)
    assert await said(ask("write 40 words")) != await said(ask("write 40 words now"))


async def test_ids_of_calls_are_never_the_same() -> None:
    request = ask("what is 2*3? what is 2*4?", tools=BUILT_IN)
    first, second = await answer(request), await answer(request)
    assert calls(first) == calls(second)
    ids = {call.call_id for call in (*first.tool_calls, *second.tool_calls)}
    assert len(ids) == 4


async def test_words_are_paced() -> None:
    started = time.monotonic()
    await batches(ask("say one two three four five", reasoning_effort="none"), pause_ms=20)
    assert 0.08 <= time.monotonic() - started < 5


async def test_the_fast_model_lets_others_work() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    given = await batches(ask("write 2000 words", model="demo-fast"))
    task.cancel()
    assert max(map(len, given)) <= 16
    assert turns >= len(given) - 1


async def test_closing_the_stream_ends_it_at_once() -> None:
    provider = DemoProvider("demo", {"pause_ms": 60_000})
    async with asyncio.timeout(5):
        async with aclosing(provider.stream(ask("hi"))) as stream:
            await anext(stream)
    await provider.aclose()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"url": "http://x"}, "url: no such field; a demo provider has only pause_ms"),
        ({"pause_ms": "20"}, "pause_ms: expected milliseconds, not '20'"),
        ({"pause_ms": -1}, "pause_ms: expected milliseconds from 0 to 60000"),
        ({"pause_ms": float("nan")}, "pause_ms: expected milliseconds from 0 to 60000"),
    ],
)
def test_a_wrong_setting_is_named(config: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError) as failure:  # noqa: PT011  # the message is compared below
        DemoProvider("demo", config)
    assert str(failure.value) == message


async def test_all_models_are_listed_and_known_by_their_names() -> None:
    provider = DemoProvider("demo", {})
    names = await provider.models()
    assert {"demo", "demo-fast", "demo-slow", "demo-echo", "demo-fail"} <= set(names)
    with pytest.raises(UnknownModel, match="no model 'gpt-9'; it has demo, demo-fast") as failure:
        await events(ask("hi", model="gpt-9"))
    assert failure.value.param == "model"
    assert set(names) == set(MODELS)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "x",
        "  two\n\n words\t ",
        "日本語のとても長い文です" * 9,
        "🙂🙂",
        "",
        " ",
        "a" * 200,
    ],
)
async def test_echo_says_it_back_verbatim(text: str) -> None:
    choice = await answer(ask(text, model="demo-echo"))
    assert "".join(choice.text) == text
    assert len(choice.text) > 1 or len(text) < 2


async def test_long_has_two_thousand_words() -> None:
    assert len((await said(ask("go", model="demo-long"))).split()) == 2000


@pytest.mark.parametrize(
    ("model", "status", "retryable", "retry_after", "words"),
    [
        ("demo-fail", 503, False, None, 0),
        ("demo-limit", 429, True, 20, 0),
        ("demo-break", 502, False, None, 5),
        ("demo-cut", 502, True, None, 5),
    ],
)
@pytest.mark.parametrize("text", ["hello", "say a b"])
async def test_a_model_fails_as_it_is_meant_to(
    model: str, status: int, retryable: bool, retry_after: float | None, words: int, text: str
) -> None:
    whole = Outcome()
    provider = DemoProvider("demo", {"pause_ms": 0})
    with pytest.raises(ProviderFailed, match="meant to") as failure:  # noqa: PT012  # a stream
        async with aclosing(provider.stream(ask(text, model=model))) as stream:
            async for batch in stream:
                whole.feed(batch)
    error: GatewayError = failure.value
    assert (error.status, error.retryable, error.retry_after) == (status, retryable, retry_after)
    assert isinstance(error, ProviderTruncated) == (model == "demo-cut")
    assert len(whole.choices[0].text) == min(words, 2 if text == "say a b" else words)
    assert whole.end is None


async def test_hang_says_nothing_until_it_is_cancelled() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await events(ask("hi", model="demo-hang"))


async def test_slow_waits_before_its_first_word() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await events(ask("hi", model="demo-slow"))


async def test_several_tools_are_called_at_once() -> None:
    request = ask(
        "What time is it in Oslo and Tokyo, what is 17*23? And search for tides", tools=BUILT_IN
    )
    whole = await outcome(request)
    assert calls(whole.choices[0]) == [
        ("current_time", {"timezone": "Oslo"}),
        ("current_time", {"timezone": "Tokyo"}),
        ("calculator", {"expression": "17*23"}),
        ("web_search", {"query": "tides"}),
    ]
    assert isinstance(whole.end, Complete)
    assert whole.end.finish_reason == "tool_calls"
    assert not whole.choices[0].text
    assert len(whole.calls) == 4


async def test_arguments_are_streamed_in_fragments_that_add_up() -> None:
    given = await events(ask("what is (1+2)*3", tools=BUILT_IN))
    fragments = [event.fragment for event in given if isinstance(event, ToolCallDelta)]
    ready = [event.arguments for event in given if isinstance(event, ToolCallReady)]
    assert len(fragments) > 1
    assert "".join(fragments) == ready[0]
    assert [event.executor for event in given if isinstance(event, ToolCallStart)] == ["client"]


async def test_results_are_put_into_words() -> None:
    request = ask("time in Oslo? what is 17*23? search for tides", tools=BUILT_IN)
    first = await answer(request)
    clock = (
        '{"time":"2026-01-15T14:05:00+01:00","timezone":"Europe/Oslo",'
        '"utc_offset":"+01:00","weekday":"Thursday"}'
    )
    second = await answer(follow(request, first, clock, "391", RESULTS))
    text = "".join(second.text)
    assert "In Oslo it is 14:05 on Thursday, 15 January 2026 (Europe/Oslo, UTC+01:00)." in text
    assert "17*23 = 391." in text
    assert "1. [Tides (in) Oslo](https://a.example/t_(1%29): High at noon" in text
    assert [(one.url, text[one.start : one.end].startswith("[")) for one in second.citations] == [
        ("https://a.example/t_(1)", True),
        ("https://b.example/", True),
    ]
    assert not second.tool_calls


async def test_failed_tools_are_told_and_not_called_again() -> None:
    request = ask("time in Atlantis? what is 1/0? search for tides", tools=BUILT_IN)
    first = await answer(request)
    failures = (
        "'Atlantis' is not a time zone.",
        "That divides by zero.",
        "No results for 'tides'.",
    )
    second = await answer(follow(request, first, *failures))
    assert "".join(second.text) == (
        "I could not tell the time in Atlantis: 'Atlantis' is not a time zone. I could not work out "
        "1/0: That divides by zero. The search for “tides” did not help: No results for 'tides'."
    )


async def test_without_parallel_calls_one_follows_the_other() -> None:
    request = ask("what is 1+1? what is 2+2?", tools=BUILT_IN, parallel_tool_calls=False)
    first = await answer(request)
    assert calls(first) == [("calculator", {"expression": "1+1"})]
    request = follow(request, first, "2")
    second = await answer(request)
    assert calls(second) == [("calculator", {"expression": "2+2"})]
    assert await said(follow(request, second, "4")) == "1+1 = 2. 2+2 = 4."


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("search for tides", "SLUICE_SEARXNG_URL"),
        ("latest news on AI", "SLUICE_BRAVE_API_KEY"),
        ("what time is it?", "current_time is not offered"),
        ("what is 2+2", "calculator is not offered"),
    ],
)
@pytest.mark.parametrize("tool_choice", ["auto", "none"])
async def test_what_would_be_needed_is_said(text: str, hint: str, tool_choice: str) -> None:
    offered = BUILT_IN if tool_choice == "none" else []
    assert hint in await said(ask(text, tools=offered, tool_choice=tool_choice))


async def test_a_tool_is_called_when_its_words_are_spoken() -> None:
    request = ask("What's the weather in Paris, in f?", tools=[EMAIL, WEATHER, *BUILT_IN])
    assert calls(await answer(request)) == [("get_weather", {"location": "Paris", "unit": "f"})]


async def test_each_place_gets_its_own_call() -> None:
    request = ask("What's the weather in Paris and London?", tools=[WEATHER])
    assert calls(await answer(request)) == [
        ("get_weather", {"location": "Paris", "unit": "c"}),
        ("get_weather", {"location": "London", "unit": "c"}),
    ]


async def test_results_of_any_tool_are_put_into_words() -> None:
    request = ask("What's the weather in Paris and London?", tools=[WEATHER, *BUILT_IN])
    first = await answer(request)
    text = await said(follow(request, first, '{"temperature": 21}', "error: no such city"))
    assert text == (
        "get_weather (Paris, c) says: temperature: 21. "
        "get_weather (London, c) did not work: error: no such city"
    )


async def test_small_talk_calls_nothing() -> None:
    assert not (
        await answer(ask("hello, who are you?", tools=[WEATHER, EMAIL, *BUILT_IN]))
    ).tool_calls


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "get_weather"),
        ({"type": "function", "function": {"name": "send_email"}}, "send_email"),
        ({"type": "function", "function": {"name": "calculator"}}, "calculator"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "web_search"}}],
                },
            },
            "web_search",
        ),
    ],
    ids=["required", "named", "named built-in", "allowed"],
)
async def test_a_forced_call_is_made_once(choice: object, name: str) -> None:
    tools = [WEATHER, EMAIL, *BUILT_IN]
    request = ask("hello", tools=tools, tool_choice=choice)
    first = await answer(request)
    assert [call.name for call in first.tool_calls] == [name]
    Draft202012Validator(FORMS[name]).validate(json.loads(first.tool_calls[0].arguments))
    second = await answer(follow(request, first, "done"))
    assert not second.tool_calls
    assert second.text


async def test_allowed_tools_leave_out_the_others() -> None:
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "calculator"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    request = ask("what time is it? what is 2*2?", tools=BUILT_IN, tool_choice=choice)
    assert calls(await answer(request)) == [("calculator", {"expression": "2*2"})]


async def test_the_next_question_calls_again() -> None:
    request = ask("what is 2*2?", tools=BUILT_IN)
    first = await answer(request)
    after = follow(request, first, "4")
    again = ChatRequest(
        model="demo",
        messages=[
            *after.messages,
            {"role": "assistant", "content": "2*2 = 4."},
            {"role": "user", "content": "what is 2*2?"},
        ],
        tools=BUILT_IN,
    )
    second = await answer(again)
    assert calls(second) == [("calculator", {"expression": "2*2"})]
    assert second.tool_calls[0].call_id != first.tool_calls[0].call_id


async def test_a_schema_is_followed() -> None:
    schema = {
        "type": "object",
        "properties": {"result": {"type": "integer"}, "steps": {"type": "array", "items": STRING}},
        "required": ["result", "steps"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    request = ask("what is 17*23", tools=BUILT_IN, response_format=form)
    first = await answer(request)
    value = json.loads(await said(follow(request, first, "391")))
    Draft202012Validator(schema).validate(value)
    assert value["result"] == 391


async def test_any_object_is_json() -> None:
    value = json.loads(await said(ask("hi", response_format={"type": "json_object"})))
    assert value["question"] == "hi"


async def test_several_choices_differ_and_are_all_complete() -> None:
    request = ask("explain tides", n=3)
    whole = await outcome(request)
    texts = ["".join(choice.text) for choice in whole.choices]
    assert len(set(texts)) == 3
    assert isinstance(whole.end, Complete)
    assert whole.end.further == ("stop", "stop")
    assert whole.end.usage
    assert whole.end.usage.output_tokens == len(await events(request)) - 1


async def test_choices_have_tool_calls_of_their_own() -> None:
    whole = await outcome(ask("what is 2*3", tools=BUILT_IN, n=2))
    assert [len(choice.tool_calls) for choice in whole.choices] == [1, 1]
    assert len(whole.calls) == 2
    assert [choice.finish_reason for choice in whole.choices] == ["tool_calls", "tool_calls"]


@pytest.mark.parametrize("top", [None, 0, 1, 5, 20])
async def test_logprobs_have_openai_s_form(top: int | None) -> None:
    options = {} if top is None else {"top_logprobs": top}
    given = await events(ask("hi", logprobs=True, **options))
    for event in given:
        if isinstance(event, Delta):
            assert event.logprobs
            (entry,) = event.logprobs
            assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
            assert entry["token"] == event.text
            assert bytes(entry["bytes"]).decode() == event.text
            tops = entry["top_logprobs"]
            assert isinstance(tops, list)
            assert len(tops) == (top or 0)
            values = [one["logprob"] for one in tops]
            assert values == sorted(values, reverse=True)
            assert all(value <= 0 for value in values)


async def test_no_logprobs_unless_asked() -> None:
    assert all(
        event.logprobs is None for event in await events(ask("hi")) if isinstance(event, Delta)
    )


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [1, 5, 30, 1000])
async def test_a_limit_is_kept(field: str, limit: int) -> None:
    whole = await outcome(ask("tell me a story", **{field: limit}))
    assert isinstance(whole.end, Complete)
    assert whole.end.usage
    assert whole.end.usage.output_tokens <= limit
    assert whole.end.finish_reason == ("stop" if limit == 1000 else "length")
    assert len(whole.choices[0].text) == limit or limit == 1000


async def test_arguments_that_are_cut_off_are_never_ready() -> None:
    whole = await outcome(ask("what is 17*23", tools=BUILT_IN, max_tokens=2))
    assert isinstance(whole.end, Complete)
    assert whole.end.finish_reason == "length"
    assert [call.ready for call in whole.choices[0].tool_calls] == [False]


@pytest.mark.parametrize("stop", ["three", ["nine", "three", ""], " three"])
async def test_a_stop_sequence_ends_the_text_before_it(stop: object) -> None:
    whole = await outcome(ask("say one two three four three", stop=stop))
    assert "".join(whole.choices[0].text).strip() == "one two"
    assert isinstance(whole.end, Complete)
    assert whole.end.finish_reason == "stop"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hi", "Hello!"),
        ("Good morning!", "Hello!"),
        ("help", "15% of 80"),
        ("who are you?", "demo model that comes with Sluice"),
        ("", "You said nothing yet."),
        ("explain tides", "You said: “explain tides”"),
        ("say this is a test", "this is a test"),
        ('Say "ok".', "ok"),
        ("Reply with exactly one word: pong", "pong"),
        ("count to 5", "1, 2, 3, 4, 5."),
        ("count from 3 to 5", "3, 4, 5."),
        ("tell me a story", "keeper of a small gate"),
        ("show me some markdown", "```python"),
        ("what did I say before?", "first thing you said"),
        ("my name is Ada", "Nice to meet you, Ada!"),
        ("x" * 100_000, "You said: “" + "x" * 50),
    ],
    ids=lambda value: value[:20],
)
async def test_it_has_something_to_say(text: str, part: str) -> None:
    assert part in await said(ask(text))


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("what is my name?", "Your name is Ada."),
        ("What did I say before?", "Before that you said: “I like fjords”"),
        ("what was the first thing I said?", "The first thing you said was: “My name is Ada”"),
        ("what did you say?", "I said: “So do I”"),
        ("summarise our conversation", "1. “My name is Ada”\n2. “I like fjords”"),
    ],
)
async def test_it_remembers_the_conversation(question: str, part: str) -> None:
    request = talk(
        ("user", "My name is Ada"),
        ("assistant", "Hello Ada"),
        ("user", "I like fjords"),
        ("assistant", "So do I"),
        ("user", question),
    )
    assert part in await said(request)


async def test_it_counts_images() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    text = await said(ask([{"type": "text", "text": "what is this?"}, image, image]))
    assert text.startswith("I see 2 images")


@pytest.mark.parametrize("words", [1, 50, 5000, 9999])
async def test_it_writes_as_many_words_as_told(words: int) -> None:
    assert len((await said(ask(f"write {words} words"))).split()) == min(words, 5000)


async def test_it_refuses_when_told_to() -> None:
    whole = await outcome(ask("please refuse", tools=BUILT_IN))
    assert "".join(whole.choices[0].refusal).startswith("I'm sorry")
    assert not whole.choices[0].text
    kinds = {type(event) for event in await events(ask("please refuse"))}
    assert kinds == {ReasoningDelta, RefusalDelta, Complete}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "Be kind."}],
        [{"role": "user", "content": None}],
        [{"role": "user"}],
        [{"role": "user", "content": [{"type": "text"}, {"type": "odd"}, 3, None]}],
        [{"role": "assistant", "content": "hi", "tool_calls": None}],
        [{"role": "tool", "tool_call_id": "x", "content": "orphan"}],
        [
            {"role": "user", "content": "what is 2*2"},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "calculator"}}]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "4"}]},
        ],
        [
            {"role": "user", "content": "what is 2*2"},
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{not json"}}, 3]},
        ],
        [{"role": "user", "content": "lone \ud800 surrogate"}],
    ],
)
async def test_no_conversation_is_too_odd(messages: Sequence[Message]) -> None:
    request = ChatRequest(model="demo", messages=messages, tools=[*BUILT_IN, {}, {"function": 3}])
    assert isinstance((await events(request))[-1], Complete)


DEEP: Sequence[Message] = [
    {"role": "user", "content": "Go on"},
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": '{"a":' * 900 + "1" + "}" * 900}},
            {"id": "b", "function": {"name": "calculator", "arguments": "[" * 100_000}},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": '{"a":' * 100_000},
    {"role": "tool", "tool_call_id": "b", "content": '{"a":' + "9" * 5_000 + "}"},
]


@pytest.mark.parametrize(
    "request_",
    [
        ask(" " * 300_000 + "x", model="demo-fast"),
        ask("\n" * 300_000 + "refuse", model="demo-fast"),
        ask("x" * 9_000_000, model="demo-fast", n=128, max_tokens=1),
        ask("(" * 2_000 + "1+1", model="demo-fast", n=128, max_tokens=1),
        ask("f " * 2_000, model="demo-fast", tools=[function("f", "f " * 500_000)], n=128),
        ChatRequest(model="demo-fast", messages=DEEP),
    ],
    ids=["spaces", "lines", "a long text", "an endless sum", "a long description", "deep results"],
)
async def test_odd_input_is_answered_and_holds_nobody_up(request_: ChatRequest) -> None:
    started = time.monotonic()
    assert (await outcome(request_)).end
    assert time.monotonic() - started < 10


LONG_LIST = {"type": "array", "minItems": 1_000, "items": {"type": "string", "minLength": 999}}


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": LONG_LIST}}},
        {"tools": [function("f", a=LONG_LIST)], "tool_choice": "required"},
    ],
    ids=lambda asked: next(iter(asked)),
)
async def test_a_schema_that_asks_for_too_much_is_the_callers_fault(
    asked: Mapping[str, object],
) -> None:
    request = replace(ask("f", tools=asked.get("tools", ())), options=asked)
    with pytest.raises(InvalidRequest) as caught:
        await outcome(request)
    assert caught.value.param == next(iter(asked))
