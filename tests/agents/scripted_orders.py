"""A server of OpenAI's API whose model calls the first tool that it is offered, then says its result."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import orjson

from tests.agents.order_desk import Heard, ask, serving
from tests.servers.dialogue import piece, story, usage
from tests.servers.gateway import Gateway
from tests.servers.scripted import CHUNKED, LAST_CHUNK, Exchange, chunk, frames, scripted

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"


def block(first_line: str, holding: str) -> str:
    """The block of Python in the docs that begins so, without the indent that it may have."""
    for text in PAGE.read_text().split("```python\n")[1:]:
        lines = [line.removeprefix("  ") if text[0] == " " else line for line in text.splitlines()]
        code = "\n".join(lines).split("```")[0]
        if code.startswith(first_line) and holding in code:
            return code
    raise LookupError(holding)


async def _answer(exchange: Exchange) -> None:
    asked = orjson.loads(exchange.body)
    last = asked["messages"][-1]
    if last["role"] == "tool":
        said = story(last["content"], tokens_in=20)
    else:
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": "{}"}
        if "number" in str(asked["tools"][0]):
            function["arguments"] = '{"number": "1007"}'
        call = {"index": 0, "id": "call_abcdefgh", "type": "function", "function": function}
        choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
        calling = {**piece(), "choices": [choice]}
        said = frames(calling, piece(finish="tool_calls"), usage(10, 5), b"[DONE]")
    await exchange.send(CHUNKED + chunk(said) + LAST_CHUNK)


@asynccontextmanager
async def documented(
    folder: Path, config: str, modules: dict[str, str]
) -> AsyncGenerator[tuple[Gateway, Callable[[str], Heard]], None]:
    """A gateway with what the docs show, where OpenAI's server is ours; and a way to ask its models."""
    async with scripted(_answer) as upstream:
        url = f"{upstream.url}/v1"
        texts = {name: text.replace("BASE_URL", url) for name, text in modules.items()}
        texts[".env"] = f"OPENAI_API_KEY=sk-up\nOPENAI_BASE_URL={url}\n"
        serve = serving(folder, config, texts)
        gateway = await asyncio.to_thread(serve.__enter__)
        try:
            key = await asyncio.to_thread(gateway.key, "eve@example.com")

            def question(model: str) -> Heard:
                with openai.OpenAI(
                    base_url=f"{gateway.url}/v1", api_key=key, max_retries=0
                ) as client:
                    return ask(client, model=model)

            yield gateway, question
        finally:
            await asyncio.to_thread(serve.__exit__, None, None, None)
