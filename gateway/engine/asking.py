"""Asking a model: retries and fallback, as long as nothing of an answer has been seen."""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

from gateway.engine.limits import within
from gateway.engine.router import Target
from gateway.errors import ProviderFailed, ProviderTruncated
from gateway.ports import Batch, Events
from gateway.request import ChatRequest

log = logging.getLogger(__name__)

_OF_THIS_TARGET = frozenset({"upstream_auth", "insufficient_quota"})
"""Codes of failures that will not pass, but that another target does not share."""

LONGEST_PAUSE = 5.0
"""Seconds to wait before another attempt. A provider that asks for more gets no further one: the
client hears of the wait and decides."""


async def ask(targets: Sequence[Target], request: ChatRequest) -> tuple[Target, Batch, Events]:
    """The first target that answers, its first batch, and the stream of the rest to be closed.

    Raises the last target's error when all failed. After the first batch there is no other attempt:
    a second answer would contradict the first.
    """
    for target in targets[:-1]:
        try:
            return await _ask_patiently(target, request)
        except ProviderFailed as error:
            if not error.retryable and error.code not in _OF_THIS_TARGET:
                raise
            log.info(
                "provider %s failed (%s), trying the next",
                target.upstream.provider.name,
                error.code,
            )
    return await _ask_patiently(targets[-1], request)


async def _ask_patiently(target: Target, request: ChatRequest) -> tuple[Target, Batch, Events]:
    attempts = target.upstream.retries
    for attempt in range(attempts):
        try:
            return await _ask_once(target, request)
        except ProviderFailed as error:
            if not error.retryable or (error.retry_after or 0) > LONGEST_PAUSE:
                raise
            pause = error.retry_after or min(0.25 * 2**attempt, LONGEST_PAUSE) * random.uniform(
                0.75, 1
            )
        await asyncio.sleep(pause)
    return await _ask_once(target, request)


async def _ask_once(target: Target, request: ChatRequest) -> tuple[Target, Batch, Events]:
    provider = target.upstream.provider
    events = provider.stream(replace(request, model=target.model))
    limited = within(target.upstream.limits, provider.name, events)
    with suppress(StopAsyncIteration):
        return target, await anext(limited), limited
    async with aclosing(limited):
        raise ProviderTruncated(f"The provider {provider.name!r} ended without an answer.")
