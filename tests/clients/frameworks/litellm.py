"""What programs do with LiteLLM as a client: `python litellm.py CASES BASE_URL KEY` prints one JSON
object."""

import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it looks for a newer one on the network

import litellm
from pydantic import BaseModel

litellm.suppress_debug_info = True
CASES, BASE_URL, KEY = sys.argv[1:]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Person(BaseModel):
    name: str
    age: int


def ask(said: object, name: str = "demo-fast", **more: object) -> object:
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    given = {"api_base": BASE_URL, "api_key": KEY, "num_retries": 0, "max_retries": 0, **more}
    return litellm.completion(model=f"openai/{name}", messages=messages, **given)


def text() -> object:
    answer = ask("what is 17 * 23?")
    return {"text": answer.choices[0].message.content, "tokens": answer.usage.completion_tokens}


def stream() -> object:
    chunks = list(ask("what is 17 * 23?", stream=True, stream_options={"include_usage": True}))
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    return {
        "text": "".join(texts),
        "pieces": len(texts),
        "tokens": usages[-1].completion_tokens,
    }


def tools() -> object:
    messages: list[object] = [{"role": "user", "content": "what is the weather in Paris?"}]
    first = ask(messages, tools=[WEATHER]).choices[0].message
    messages.append(first.model_dump(exclude_none=True))
    called = []
    for call in first.tool_calls:
        called.append(json.loads(call.function.arguments))
        result = f"sunny in {called[-1]['city']}"
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    last = ask(messages, tools=[WEATHER])
    return {"called": called, "text": last.choices[0].message.content}


def structure() -> object:
    answer = ask("Ada is 36 years old", response_format=Person)
    return json.loads(answer.choices[0].message.content)


def abort() -> object:
    stream = iter(ask("go", "demo-long", stream=True))
    heard = [next(stream) for _ in range(5)]
    stream.completion_stream.response.close()
    return {"pieces": len(heard)}


def errors() -> object:
    kinds = {}
    for what, asked in {
        "key": {"api_key": "sk-wrong"},
        "model": {"name": "nothing"},
        "limit": {"name": "demo-limit"},
    }.items():
        try:
            ask("hi", **asked)
        except Exception as error:
            kinds[what] = type(error).__name__
    return kinds


def embeddings() -> object:
    made = litellm.embedding(
        model="openai/demo-embed", input=["a", "b"], api_base=BASE_URL, api_key=KEY
    )
    return {"vectors": len(made.data)}


print(json.dumps({case: globals()[case]() for case in CASES.split(",")}))
