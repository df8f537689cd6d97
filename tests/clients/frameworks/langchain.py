"""What programs do with LangChain: `python langchain.py CASES BASE_URL KEY` prints one JSON object."""

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

CASES, BASE_URL, KEY = sys.argv[1:]


class Person(BaseModel):
    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def model(name: str = "demo-fast", key: str = KEY, **more: object) -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=BASE_URL, api_key=key, max_retries=0, **more)


def text() -> object:
    answer = model().invoke("what is 17 * 23?")
    return {"text": answer.content, "tokens": answer.usage_metadata["output_tokens"]}


def stream() -> object:
    pieces = list(model(stream_usage=True).stream("what is 17 * 23?"))
    tokens = sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata)
    texts = [piece.content for piece in pieces if piece.content]
    return {"text": "".join(texts), "pieces": len(texts), "tokens": tokens}


def tools() -> object:
    bound = model().bind_tools([get_weather])
    messages: list[object] = [HumanMessage("what is the weather in Paris?")]
    first = bound.invoke(messages)
    messages.append(first)
    for call in first.tool_calls:
        result = get_weather.invoke(call["args"])
        messages.append(ToolMessage(result, tool_call_id=call["id"]))
    return {
        "called": [call["args"] for call in first.tool_calls],
        "text": bound.invoke(messages).content,
    }


def structure() -> object:
    person = model().with_structured_output(Person).invoke("Ada is 36 years old")
    return {"name": person.name, "age": person.age}


def abort() -> object:
    pieces = model("demo-long").stream("go")
    heard = [next(pieces) for _ in range(5)]
    pieces.close()
    return {"pieces": len(heard)}


def errors() -> object:
    kinds = {}
    for what, asked in {
        "key": model(key="sk-wrong"),
        "model": model("nothing"),
        "limit": model("demo-limit"),
        "break": model("demo-break"),
    }.items():
        try:
            list(asked.stream("hi"))
        except Exception as error:
            kinds[what] = type(error).__name__
    return kinds


def embeddings() -> object:
    made = OpenAIEmbeddings(
        model="demo-embed", base_url=BASE_URL, api_key=KEY, check_embedding_ctx_length=False
    )
    return {"vectors": len(made.embed_documents(["a", "b"]))}


print(json.dumps({case: globals()[case]() for case in CASES.split(",")}))
