"""The least that Starlette and aiohttp can do: bytes from one side to the other, nothing looked at.

What a gateway is measured against, since it depends on the machine as the gateway does.
"""

import os
from collections.abc import AsyncGenerator

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_sessions: list[aiohttp.ClientSession] = []


async def _relay(request: Request) -> Response:
    body = await request.body()
    if not _sessions:
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    answer = await _sessions[0].post(os.environ["UPSTREAM"] + request.url.path, data=body)

    if answer.content_type == "application/json":
        async with answer:
            return Response(await answer.read(), media_type=answer.content_type)

    async def reads() -> AsyncGenerator[bytes, None]:
        async with answer:
            async for read in answer.content.iter_any():
                yield read

    return StreamingResponse(reads(), media_type="text/event-stream")


app = Starlette(routes=[Route("/v1/chat/completions", _relay, methods=["POST"])])
