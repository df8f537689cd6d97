"""Asking a model: retries and fallback, as long as nothing of an answer has been seen."""

import asyncio
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TypeAlias, TypeVar

from gateway.engine.limits import within
from gateway.engine.router import Target
from gateway.errors import InvalidRequest, ProviderFailed, ProviderTimedOut, ProviderTruncated
from gateway.events import Usage
from gateway.ports import Batch, Embedder, Events
from gateway.records import Embeddings
from gateway.request import ChatRequest, EmbeddingRequest

log = logging.getLogger(__name__)

T = TypeVar("T")
_Attempt: TypeAlias = Callable[[Target], Awaitable[T]]

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
    target, (batch, rest) = await _first(targets, functools.partial(_begin, request=request))
    return target, batch, rest


async def embed(targets: Sequence[Target], request: EmbeddingRequest) -> tuple[Target, Embeddings]:
    """The first target that answers, and its vectors. Raises as `ask` does."""
    return await _first(targets, functools.partial(_embed, request=request))


async def _first(targets: Sequence[Target], attempt: _Attempt[T]) -> tuple[Target, T]:
    failure: ProviderFailed | None = None
    for target in _in_turn(targets):
        if failure is not None:
            log.info("trying %s next (%s)", target.upstream.provider.name, failure.code)
        try:
            return target, await _ask_patiently(target, attempt)
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


async def _ask_patiently(target: Target, attempt: _Attempt[T]) -> T:
    for number in range(target.upstream.retries):
        try:
            return await _ask_once(target, attempt)
        except ProviderFailed as error:
            if not error.retryable or (error.retry_after or 0) > LONGEST_PAUSE:
                raise
            pause = error.retry_after or min(0.25 * 2**number, LONGEST_PAUSE) * random.uniform(
                0.75, 1
            )
        await asyncio.sleep(pause)
    return await _ask_once(target, attempt)


async def _ask_once(target: Target, attempt: _Attempt[T]) -> T:
    try:
        answer = await attempt(target)
    except ProviderFailed as error:
        if target.breaker is not None and _is_of_this_target(error) and target.breaker.failed():
            name = target.upstream.provider.name
            log.warning("%s/%s keeps failing: others are asked first", name, target.model)
        raise
    if target.breaker is not None:
        target.breaker.succeeded()
    return answer


async def _begin(target: Target, request: ChatRequest) -> tuple[Batch, Events]:
    provider = target.upstream.provider
    events = provider.stream(replace(request, model=target.model))
    limited = within(target.upstream.limits, provider.name, events)
    with suppress(StopAsyncIteration):
        return await anext(limited), limited
    async with aclosing(limited):
        raise ProviderTruncated(f"The provider {provider.name!r} ended without an answer.")


async def _embed(target: Target, request: EmbeddingRequest) -> Embeddings:
    """In as many requests as the provider's limit makes of it."""
    provider, limits = target.upstream.provider, target.upstream.limits
    if not isinstance(provider, Embedder):
        raise InvalidRequest(f"The model {request.model!r} makes no embeddings.", param="model")
    vectors: list[Sequence[float] | str] = []
    usages: list[Usage | None] = []
    try:
        async with asyncio.timeout(limits.total):
            for start in range(0, len(request.inputs), provider.most_inputs):
                inputs = request.inputs[start : start + provider.most_inputs]
                part = await provider.embed(replace(request, model=target.model, inputs=inputs))
                if len(part.vectors) != len(inputs):
                    raise ProviderFailed(
                        f"The provider {provider.name!r} sent {len(part.vectors)} vectors "
                        f"for {len(inputs)} texts.",
                        code="upstream_malformed",
                        retryable=False,
                    )
                vectors += part.vectors
                usages.append(part.usage)
    except TimeoutError:
        raise ProviderTimedOut(
            f"The provider {provider.name!r} did not answer within {limits.total:g} s."
        ) from None
    told = [usage for usage in usages if usage is not None]
    return Embeddings(vectors, sum(told, Usage()) if len(told) == len(usages) else None)
