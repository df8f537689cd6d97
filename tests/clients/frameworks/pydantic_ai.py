"""What programs do with PydanticAI: `python pydantic_ai.py CASES BASE_URL KEY` prints one JSON object."""

import asyncio
import json
import sys

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

CASES, BASE_URL, KEY = sys.argv[1:]


class Person(BaseModel):
    name: str
    age: int


def model(name: str = "demo-fast", key: str = KEY) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=BASE_URL, api_key=key))


async def text() -> object:
    run = await Agent(model()).run("what is 17 * 23?")
    return {"text": run.output, "tokens": run.usage.output_tokens}


async def stream() -> object:
    async with Agent(model()).run_stream("what is 17 * 23?") as run:
        texts = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        return {
            "text": "".join(texts),
            "pieces": len(texts),
            "tokens": run.usage.output_tokens,
        }


async def tools() -> object:
    agent, called = Agent(model()), []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        called.append({"city": city})
        return f"sunny in {city}"

    run = await agent.run("what is the weather in Paris?")
    return {"called": called, "text": run.output}


async def structure() -> object:
    person = (await Agent(model(), output_type=Person).run("Ada is 36 years old")).output
    return {"name": person.name, "age": person.age}


async def abort() -> object:
    heard = 0
    async with Agent(model("demo-long")).run_stream("go") as run:
        async for _ in run.stream_text(delta=True, debounce_by=None):
            heard += 1
            if heard == 5:
                break
    return {"pieces": heard}


async def errors() -> object:
    kinds = {}
    for what, asked in {
        "key": model(key="sk-wrong"),
        "model": model("nothing"),
    }.items():
        try:
            await Agent(asked).run("hi")
        except ModelHTTPError as error:
            kinds[what] = error.status_code
    return kinds


async def main() -> None:
    print(json.dumps({case: await globals()[case]() for case in CASES.split(",")}))


asyncio.run(main())
