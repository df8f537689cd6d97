"""The gateway's providers as models of LlamaIndex's agents."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import orjson
import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

from adapters.agents.llamaindex import LlamaIndexEngine
from adapters.agents.llamaindex_model import ProviderModel
from gateway.errors import GatewayError, ProviderFailed
from gateway.events import (
    Complete,
    Delta,
    ReasoningDelta,
    Step,
    StepStart,
    ToolCallReady,
    ToolCallResult,
    Usage,
)
from tests.samples import a_call, a_request, drain
from tests.servers.dialogue import piece, story, usage
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    ScriptedUpstream,
    chunk,
    frames,
    scripted,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def delta(**fields: object) -> dict[str, object]:
    return {**piece(), "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def called(call_id: str, name: str, arguments: str) -> dict[str, object]:
    function = {"name": name, "arguments": arguments}
    call = {"index": 0, "id": call_id, "type": "function", "function": function}
    return delta(tool_calls=[call])


CALLING = frames(
    delta(reasoning_content="hmm"),
    piece("Let me look. "),
    called("call_abcdefgh", "look", '{"at": "sky"}'),
    piece(finish="tool_calls"),
    usage(30, 9),
    b"[DONE]",
)


@pytest.fixture
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    answers = iter((CALLING, story("It is ", "blue", tokens_in=50)))

    async def script(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(next(answers)) + LAST_CHUNK)

    async with scripted(script) as running:
        yield running


Make = Callable[[str], ProviderModel]


@pytest.fixture
async def model() -> AsyncGenerator[Make, None]:
    made: list[ProviderModel] = []

    def make(url: str) -> ProviderModel:
        row = {"base_url": f"{url}/v1", "api_key": "sk-up"}
        made.append(ProviderModel("openai", "m-1", options={"temperature": 0}, **row))
        return made[-1]

    yield make
    for llm in made:
        await llm.aclose()


async def look(at: str) -> str:
    """Looks somewhere."""
    return f"{at}: blue"


async def test_an_agent_asks_a_provider(upstream: ScriptedUpstream, model: Make) -> None:
    agent = FunctionAgent(tools=[look], llm=model(upstream.url), system_prompt="Be brief.")
    request = a_request()
    events = await drain(LlamaIndexEngine(agent, "desk").stream(a_call(request), request))
    assert events[:3] == [
        StepStart(1, "m-1", "openai"),
        ReasoningDelta("hmm"),
        Delta("Let me look. "),
    ]
    assert ToolCallReady("call_abcdefgh", '{"at":"sky"}') in events
    assert [event.output for event in events if isinstance(event, ToolCallResult)] == ["sky: blue"]
    assert events[-1] == Complete(
        provider_reason="stop",
        usage=Usage(80, 11),
        steps=(
            Step(1, "m-1", "openai", Usage(30, 9)),
            Step(2, "m-1", "openai", Usage(50, 2)),
        ),
    )
    first, second = [orjson.loads(exchange.body) for exchange in upstream.exchanges]
    assert first["temperature"] == 0
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["tools"][0]["function"]["name"] == "look"
    assistant, result = second["messages"][-2:]
    assert assistant["content"] == "Let me look. "
    assert assistant["tool_calls"] == [
        {
            "id": "call_abcdefgh",
            "type": "function",
            "function": {"name": "look", "arguments": '{"at":"sky"}'},
        }
    ]
    assert result == {"role": "tool", "tool_call_id": "call_abcdefgh", "content": "sky: blue"}


async def test_images_go_to_the_provider(upstream: ScriptedUpstream, model: Make) -> None:
    blocks = [
        TextBlock(text="What is this?"),
        ImageBlock(image=b"GIF89a", image_mimetype="image/gif"),
    ]
    await model(upstream.url).achat([ChatMessage(role="user", blocks=blocks)])
    [exchange] = upstream.exchanges
    [message] = orjson.loads(exchange.body)["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}},
    ]


async def test_a_whole_answer_has_calls_and_usage(upstream: ScriptedUpstream, model: Make) -> None:
    response = await model(upstream.url).achat([ChatMessage(role="user", content="Hi")])
    assert response.message.content == "Let me look. "
    assert [block for block in response.message.blocks if isinstance(block, ToolCallBlock)] == [
        ToolCallBlock(tool_call_id="call_abcdefgh", tool_name="look", tool_kwargs={"at": "sky"})
    ]
    assert response.raw["usage"]["prompt_tokens"] == 30


async def test_a_completion_is_a_chat_of_one_message(
    upstream: ScriptedUpstream, model: Make
) -> None:
    answer = await model(upstream.url).acomplete("Say")
    assert answer.text == "Let me look. "
    pieces = [piece.delta async for piece in await model(upstream.url).astream_complete("Say")]
    assert "".join(text or "" for text in pieces) == "It is blue"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 429 Slow down\r\ncontent-length: 0\r\n\r\n", "rate_limit_exceeded"),
        (CHUNKED + chunk(frames(piece("It"))) + LAST_CHUNK, "upstream_truncated"),
    ],
    ids=["refused", "cut"],
)
async def test_failures_are_told_as_of_any_provider(answer: bytes, code: str, model: Make) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(answer)

    async with scripted(script) as upstream:
        agent = FunctionAgent(llm=model(upstream.url))
        request = a_request()
        with pytest.raises(GatewayError) as caught:
            await drain(LlamaIndexEngine(agent, "desk").stream(a_call(request), request))
    assert isinstance(caught.value, ProviderFailed)
    assert caught.value.code == code


async def test_leaving_closes_the_connection(model: Make) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(frames(piece("It "))))
        await exchange.reader.read()
        gone.set()

    async with scripted(script) as upstream:
        agent = FunctionAgent(llm=model(upstream.url))
        request = a_request()
        events = LlamaIndexEngine(agent, "desk").stream(a_call(request), request)
        assert Delta("It ") in await anext(events)
        await events.aclose()
        await asyncio.wait_for(gone.wait(), 5)


async def test_an_engine_closes_its_models(upstream: ScriptedUpstream, model: Make) -> None:
    llm = model(upstream.url)
    await llm.achat([ChatMessage(role="user", content="Hi")])
    await LlamaIndexEngine(FunctionAgent(llm=llm), "desk").aclose()
    await asyncio.wait_for(upstream.idle.wait(), 5)


def test_a_provider_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="there is no provider 'opnai'; expected one of"):
        ProviderModel("opnai", "m")


def test_blocking_calls_say_what_to_use() -> None:
    with pytest.raises(NotImplementedError, match="use achat"):
        ProviderModel("demo", "demo").chat([])
