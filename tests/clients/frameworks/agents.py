"""What programs do with OpenAI's Agents SDK: `python agents.py CASES BASE_URL KEY [API]` prints one JSON
object. API is `chat` or `responses`."""

import asyncio
import json
import logging
import sys

import openai
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

CASES, BASE_URL, KEY, API = (*sys.argv[1:], "chat")[:4]
set_tracing_disabled(True)
logging.getLogger("openai.agents").setLevel(logging.CRITICAL)  # errors are looked at below
KINDS = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}


class Person(BaseModel):
    name: str
    age: int


def agent(name: str = "demo-fast", key: str = KEY, **more: object) -> Agent:
    client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=key, max_retries=0)
    return Agent(name="Tester", model=KINDS[API](model=name, openai_client=client), **more)


async def text() -> object:
    run = await Runner.run(agent(), "what is 17 * 23?")
    return {
        "text": run.final_output,
        "tokens": sum(response.usage.output_tokens for response in run.raw_responses),
    }


async def stream() -> object:
    run = Runner.run_streamed(agent(), "what is 17 * 23?")
    texts = [
        event.data.delta
        async for event in run.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    return {"text": "".join(texts), "pieces": len(texts)}


async def tools() -> object:
    called = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        called.append({"city": city})
        return f"sunny in {city}"

    run = await Runner.run(agent(tools=[get_weather]), "what is the weather in Paris?")
    return {"called": called, "text": run.final_output}


async def structure() -> object:
    run = await Runner.run(agent(output_type=Person), "Ada is 36 years old")
    return {"name": run.final_output.name, "age": run.final_output.age}


async def abort() -> object:
    run = Runner.run_streamed(agent("demo-long"), "go")
    heard = 0
    async for event in run.stream_events():
        heard += event.type == "raw_response_event"
        if heard == 5:
            run.cancel()
            break
    return {"pieces": heard}


async def errors() -> object:
    kinds = {}
    for what, asked in {
        "key": agent(key="sk-wrong"),
        "model": agent("nothing"),
        "limit": agent("demo-limit"),
    }.items():
        try:
            await Runner.run(asked, "hi")
        except openai.APIError as error:
            kinds[what] = type(error).__name__
    return kinds


async def main() -> None:
    print(json.dumps({case: await globals()[case]() for case in CASES.split(",")}))


asyncio.run(main())
