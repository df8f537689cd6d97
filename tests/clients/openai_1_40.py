"""What programs of 2024 do with openai-python 1.40: `python - CASE BASE_URL KEY` in an environment of its
own prints one JSON object. Nothing here is careful: such programs were not."""

import asyncio
import json
import sys
from typing import Any

import openai

QUESTION = "What time is it in Oslo, and what is 17 * 23?"
BOTH = "What time is it in Oslo, and what is the weather in Paris?"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}

Result = dict[str, Any]


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def told(chunk: Any) -> list[Any]:
    note = (chunk.model_extra or {}).get("tool_notification")
    return [(note["tool"], note["status"])] if note else []


def loop(client: openai.OpenAI) -> Result:
    raw = client.chat.completions.with_raw_response.create(
        model="demo-fast", messages=ask(QUESTION), stream=True
    )
    text, notes = "", []
    for chunk in raw.parse():
        text += chunk.choices[0].delta.content or ""
        notes += told(chunk)
    return {
        "text": text,
        "told": notes,
        "dialect": raw.headers["x-tool-notifications"],
        "request_id": raw.headers["x-request-id"],
    }


def named(client: openai.OpenAI) -> Result:
    """What becomes of the same loop with the dialect of newer versions."""
    stream = client.chat.completions.create(
        model="demo-fast",
        messages=ask(QUESTION),
        stream=True,
        extra_headers={"X-Tool-Notifications": "named"},
    )
    try:
        for chunk in stream:
            chunk.choices[0]
    except TypeError as error:
        return {"error": str(error)}
    return {"error": None}


def async_loop(client: openai.OpenAI) -> Result:
    async def read() -> str:
        text = ""
        async with openai.AsyncOpenAI(
            base_url=str(client.base_url), api_key=client.api_key
        ) as aclient:
            stream = await aclient.chat.completions.create(
                model="demo-fast", messages=ask(QUESTION), stream=True
            )
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
        return text

    return {"text": asyncio.run(read())}


def helper(client: openai.OpenAI) -> Result:
    with client.beta.chat.completions.stream(
        model="demo-fast", messages=ask(QUESTION), stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    return {
        "text": "".join(event.delta for event in events if event.type == "content.delta"),
        "whole": final.choices[0].message.content,
        "reason": final.choices[0].finish_reason,
        "tokens": final.usage and final.usage.completion_tokens,
        "told": [note for event in events if event.type == "chunk" for note in told(event.chunk)],
    }


def usage(client: openai.OpenAI) -> Result:
    chunks = list(
        client.chat.completions.create(
            model="demo-fast",
            messages=ask("count to 5"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    return {
        "choices": [len(chunk.choices) for chunk in chunks][-2:],
        "usages": sum(chunk.usage is not None for chunk in chunks),
    }


def whole(client: openai.OpenAI) -> Result:
    answer = client.chat.completions.create(model="demo-fast", messages=ask(QUESTION))
    return {"text": answer.choices[0].message.content, "id": answer.id}


def tools(client: openai.OpenAI) -> Result:
    """A turn that needs a tool of both sides."""
    with client.beta.chat.completions.stream(
        model="demo-fast", messages=ask(BOTH), tools=[WEATHER]
    ) as stream:
        notes = [note for event in stream if event.type == "chunk" for note in told(event.chunk)]
        first = stream.get_final_completion().choices[0]
    calls = first.message.tool_calls or []
    results: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 17}'} for call in calls
    ]
    message: Any = first.message.model_dump(exclude_none=True)
    second = client.chat.completions.create(
        model="demo-fast", messages=[*ask(BOTH), message, *results], tools=[WEATHER]
    )
    return {
        "told": notes,
        "reason": first.finish_reason,
        "calls": [(call.function.name, json.loads(call.function.arguments)) for call in calls],
        "text": second.choices[0].message.content,
    }


def errors(client: openai.OpenAI) -> Result:
    found: Result = {}
    requests: dict[str, dict[str, Any]] = {
        "key": {"api_key": "sk-wrong"},
        "model": {"model": "gpt-none"},
        "field": {"temperature": 3},
        "limit": {"model": "demo-limit"},
        "failure": {"model": "demo-fail"},
        "break": {"model": "demo-break"},
        "cut": {"model": "demo-cut"},
    }
    for name, options in requests.items():
        fields: Any = {"model": "demo-fast", "messages": ask("count to 9"), **options}
        one = client.with_options(api_key=fields.pop("api_key", client.api_key), max_retries=0)
        text = ""
        try:
            for chunk in one.chat.completions.create(**fields, stream=True):
                text += chunk.choices[0].delta.content or ""
        except openai.APIError as error:
            found[name] = [type(error).__name__, error.code, error.param, text]
    return found


def leave(client: openai.OpenAI) -> Result:
    raw = client.chat.completions.with_raw_response.create(
        model="demo-long", messages=ask("Go on."), stream=True
    )
    with raw.parse() as stream:
        next(stream)
    return {"request_id": raw.headers["x-request-id"]}


def slow(client: openai.OpenAI) -> Result:
    """A model that lets wait: comments keep the line open meanwhile."""
    stream = client.chat.completions.create(
        model="demo-slow",
        messages=ask("say hello there"),
        stream=True,
        extra_body={"reasoning_effort": "none"},
    )
    return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in stream)}


def lines(client: openai.OpenAI) -> Result:
    """What is on the line, for the dialect that this version gets by itself."""
    with client.chat.completions.with_streaming_response.create(
        model="demo-fast", messages=ask(QUESTION), stream=True
    ) as raw:
        return {"lines": [line for line in raw.iter_lines() if line]}


CASES = {
    case.__name__: case
    for case in (loop, named, async_loop, helper, usage, whole, tools, errors, leave, slow, lines)
}

if __name__ == "__main__":
    name, base_url, key = sys.argv[1:]
    with openai.OpenAI(base_url=base_url, api_key=key) as client:
        print(json.dumps({**CASES[name](client), "version": openai.__version__}))
