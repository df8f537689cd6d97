"""What LiveKit's agents do with a model: `python livekit.py CASE BASE_URL KEY` prints one JSON object."""

import asyncio
import json
import logging
import sys

from livekit.agents import APIError, APIStatusError, llm
from livekit.agents.types import APIConnectOptions
from livekit.plugins import openai

CASE, BASE_URL, KEY = sys.argv[1:]
logging.disable(logging.CRITICAL)  # its retries are looked at below
CALL = {"call": {"id": f"room-{CASE}"}, "customer": {"number": "+15550100001"}}


@llm.function_tool
async def end_call(reason: str) -> None:
    """End the call."""


async def ask(
    text: str, model: str = "demo-fast", key: str = KEY, tools: list | None = None
) -> object:
    made = openai.LLM(model=model, base_url=BASE_URL, api_key=key, extra_body=CALL)
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="You are on the telephone.")
    context.add_message(role="user", content=text)
    said, calls, tokens, tries = "", [], None, []
    made.on("error", tries.append)
    try:
        async with made.chat(
            chat_ctx=context,
            tools=tools or [],
            conn_options=APIConnectOptions(max_retry=1, retry_interval=0.1),
        ) as stream:
            async for chunk in stream:
                if chunk.delta is not None:
                    said += chunk.delta.content or ""
                    calls += [
                        (call.name, json.loads(call.arguments)) for call in chunk.delta.tool_calls
                    ]
                if chunk.usage is not None:
                    tokens = chunk.usage.completion_tokens
    except APIStatusError as error:
        return {"status": error.status_code, "retryable": error.retryable}
    except APIError as error:
        return {"error": type(error).__name__}
    finally:
        await made.aclose()
    return {"text": said, "calls": calls, "tokens": tokens, "tries": len(tries)}


CASES = {
    "text": lambda: ask("what is 17 * 23?"),
    "silence": lambda: ask("what is 17 * 23?", "demo-slow"),
    "tool": lambda: ask("please end call now", tools=[end_call]),
    "limit": lambda: ask("what is 17 * 23?", "demo-limit"),
    "break": lambda: ask("tell me a story", "demo-break"),
    "key": lambda: ask("what is 17 * 23?", key="sk-wrong"),
}

print(json.dumps(asyncio.run(CASES[CASE]())))
