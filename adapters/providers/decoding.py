"""Answers that need more than to be read: compressed ones, and those that came through an SDK."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress

import httpx2

from adapters.providers.connection import SETTLING, Answer

FAILURES = (httpx2.HTTPError, httpx2.StreamError, OSError)
"""What reading an answer can raise."""


class Decoded:
    """An `httpx2.Response` as an `Answer`."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._reads = response.aiter_bytes()

    async def read(self) -> bytes:
        return await anext(self._reads, b"")

    async def leave(self, *, whole: bool) -> None:
        try:
            if whole:  # what is left is a few bytes of framing
                with suppress(TimeoutError, *FAILURES):
                    async with asyncio.timeout(SETTLING):
                        while await self.read():
                            pass
        finally:
            await self._reads.aclose()
            await self._response.aclose()


class _Encoded(httpx2.AsyncByteStream):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._whole = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        while data := await self._answer.read():
            yield data
        self._whole = True

    async def aclose(self) -> None:
        await self._answer.leave(whole=self._whole)


def decoded(answer: Answer) -> Answer:
    """The answer, uncompressed. It was asked for plain: some servers compress all the same."""
    if answer.headers.get("content-encoding", "identity") == "identity":
        return answer
    stream = _Encoded(answer)
    return Decoded(httpx2.Response(answer.status, headers=answer.headers, stream=stream))
