"""Asking a model: retries and fallback, as long as nothing of an answer has been seen."""

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
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

    Raises the error of the target that was asked last when all failed. After the first batch there is
    no other attempt: a second answer would contradict the first.
    """
    failure: ProviderFailed | None = None
    for target in _in_turn(targets):
        if failure is not None:
            log.info("trying %s next (%s)", target.upstream.provider.name, failure.code)
        try:
            return await _ask_patiently(target, request)
        except ProviderFailed as error:
            if not _is_of_this_target(error):
                raise
            failure = error
    assert failure is not None, "a route has targets"
    raise failure


def _in_turn(targets: Sequence[Target]) -> Iterator[Target]:
    """As the settings order them, but those that keep failing behind the others."""
    failing = []
    for target in targets:
        # The only target is asked whatever its past: there is nobody to take its place.
        if target.breaker is None or len(targets) == 1 or target.breaker.admit():
            yield target
        else:
            failing.append(target)
    yield from failing


def _is_of_this_target(error: ProviderFailed) -> bool:
    return error.retryable or error.code in _OF_THIS_TARGET


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
    try:
        batch, rest = await _begin(target, request)
    except ProviderFailed as error:
        if target.breaker is not None and _is_of_this_target(error) and target.breaker.failed():
            name = target.upstream.provider.name
            log.warning("%s/%s keeps failing: others are asked first", name, target.model)
        raise
    if target.breaker is not None:
        target.breaker.succeeded()
    return target, batch, rest


async def _begin(target: Target, request: ChatRequest) -> tuple[Batch, Events]:
    provider = target.upstream.provider
    events = provider.stream(replace(request, model=target.model))
    limited = within(target.upstream.limits, provider.name, events)
    with suppress(StopAsyncIteration):
        return await anext(limited), limited
    async with aclosing(limited):
        raise ProviderTruncated(f"The provider {provider.name!r} ended without an answer.")
