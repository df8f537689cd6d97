"""What programs do with LlamaIndex's OpenAILike: `python llamaindex.py CASES BASE_URL KEY` prints one JSON
object."""

import json
import sys

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

CASES, BASE_URL, KEY = sys.argv[1:]


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def model(name: str = "demo-fast", key: str = KEY) -> OpenAILike:
    return OpenAILike(
        model=name,
        api_base=BASE_URL,
        api_key=key,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def said(content: str) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def text() -> object:
    answer = model().chat([said("what is 17 * 23?")])
    return {"text": answer.message.content, "tokens": answer.raw.usage.completion_tokens}


def stream() -> object:
    pieces = [p.delta for p in model().stream_chat([said("what is 17 * 23?")]) if p.delta]
    return {"text": "".join(pieces), "pieces": len(pieces)}


def tools() -> object:
    tool, llm = FunctionTool.from_defaults(get_weather), model()
    messages = [said("what is the weather in Paris?")]
    first = llm.chat_with_tools([tool], chat_history=messages)
    calls = llm.get_tool_calls_from_response(first)
    messages.append(first.message)
    for call in calls:
        messages.append(
            ChatMessage(
                role="tool",
                content=tool.call(**call.tool_kwargs).content,
                additional_kwargs={"tool_call_id": call.tool_id},
            )
        )
    last = llm.chat_with_tools([tool], chat_history=messages)
    return {"called": [call.tool_kwargs for call in calls], "text": last.message.content}


def structure() -> object:
    person = model().as_structured_llm(Person).chat([said("Ada is 36 years old")]).raw
    return {"name": person.name, "age": person.age}


def abort() -> object:
    pieces = model("demo-long").stream_chat([said("go")])
    heard = [next(pieces) for _ in range(5)]
    pieces.close()
    return {"pieces": len(heard)}


def errors() -> object:
    kinds = {}
    for what, asked in {
        "key": model(key="sk-wrong"),
        "model": model("nothing"),
        "limit": model("demo-limit"),
    }.items():
        try:
            asked.chat([said("hi")])
        except openai.APIError as error:
            kinds[what] = type(error).__name__
    return kinds


def completion() -> object:
    """With a model that is not said to chat it speaks text completions."""
    old = OpenAILike(model="demo-fast", api_base=BASE_URL, api_key=KEY, max_retries=0)
    pieces = [piece.delta for piece in old.stream_complete("what is 17 * 23?") if piece.delta]
    return {"text": old.complete("what is 17 * 23?").text, "streamed": "".join(pieces)}


print(json.dumps({case: globals()[case]() for case in CASES.split(",")}))
