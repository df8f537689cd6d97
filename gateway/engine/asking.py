"""Asking a model: retries and fallback, as long as nothing of an answer has been seen."""

import asyncio
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Generic, TypeAlias, TypeVar

from gateway.engine.router import Target
from gateway.engine.timed import Timed
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderFailed,
    ProviderTimedOut,
    ProviderTruncated,
    ProviderUnreachable,
)
from gateway.events import Usage
from gateway.lane import Lane
from gateway.ports import Batch, Embedder
from gateway.records import Embeddings
from gateway.request import ChatRequest, EmbeddingRequest

log = logging.getLogger(__name__)

T = TypeVar("T")
_Attempt: TypeAlias = Callable[[Target, float], Awaitable[T]]
"""Asks a target once, until a time of the loop."""

_OF_THIS_TARGET = frozenset({"upstream_auth", "insufficient_quota", "rate_limit_exceeded"})
"""Codes of failures that will not pass, but that another target does not share. The last one comes
with a request that is larger than all that may be asked in a minute."""

LONGEST_PAUSE = 5.0
"""Seconds to wait for a target while there is another one to ask. The last one is waited for as long
as it says, if its time limit allows it."""

_LONGEST_NAME = 100


async def ask(
    targets: Sequence[Target], request: ChatRequest, lane: Lane[Batch] | None = None
) -> tuple[Target, Batch, Timed, tuple[str, ...]]:
    """The first target that answers, its first batch, the rest, which is to be iterated as it says, and
    the attempts that failed before. Text of the rest may go into the lane.

    Raises the error of the target that was asked last when all failed; whether and when to try again
    is said for all of them. After the first batch there is no other attempt: a second answer would
    contradict the first.
    """
    asking = _Asking(functools.partial(_begin, request, lane))
    target, (batch, rest) = await asking.first(targets)
    return target, batch, rest, tuple(asking.failed)


async def embed(
    targets: Sequence[Target], request: EmbeddingRequest
) -> tuple[Target, Embeddings, tuple[str, ...]]:
    """The first target that answers, its vectors, and the attempts before. Raises as `ask` does."""
    asking = _Asking(functools.partial(_embed, request))
    target, made = await asking.first(targets)
    return target, made, tuple(asking.failed)


class _Asking(Generic[T]):
    """The attempts for one request."""

    def __init__(self, attempt: _Attempt[T]) -> None:
        self._attempt = attempt
        self.failed: list[str] = []
        """What was tried in vain, and why it was."""

    async def first(self, targets: Sequence[Target]) -> tuple[Target, T]:
        """The first target that answers."""
        failures: list[ProviderFailed] = []
        try:
            for target in _in_turn(targets):
                if failures:
                    name, code = target.upstream.provider.name, failures[-1].code
                    log.info("trying %s next (%s)", name, code)
                last = len(failures) + 1 == len(targets)
                try:
                    return target, await self._ask_patiently(target, last=last)
                except ProviderFailed as error:
                    failures.append(error)
                    if not _is_of_this_target(error):
                        raise
            raise _exhausted(failures)
        except GatewayError as error:
            if len(self.failed) > 1 or not isinstance(error, ProviderFailed):
                error.attempts = tuple(self.failed)
            raise

    async def _ask_patiently(self, target: Target, *, last: bool) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + target.upstream.limits.total
        for number in range(target.upstream.retries):
            try:
                return await self._ask_once(target, deadline)
            except ProviderFailed as error:
                if not error.retryable or not (last or _is_brief(error)):
                    raise
                pause = error.retry_after
                if pause is None:
                    pause = min(0.25 * 2**number, LONGEST_PAUSE) * random.uniform(0.75, 1)
                if loop.time() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)
        return await self._ask_once(target, deadline)

    async def _ask_once(self, target: Target, deadline: float) -> T:
        try:
            answer = await self._attempt(target, deadline)
        except ProviderFailed as error:
            self.failed.append(_describe(target, error))
            if target.breaker is not None and _is_of_this_target(error) and target.breaker.failed():
                name = target.upstream.provider.name
                log.warning("%s/%s keeps failing: others are asked first", name, target.model)
            raise
        if target.breaker is not None:
            target.breaker.succeeded()
        return answer


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


def _is_brief(error: ProviderFailed) -> bool:
    """Whether a failure may pass sooner than another target would answer. A server that is not there,
    or that kept the client waiting once, is left to be."""
    if isinstance(error, ProviderUnreachable | ProviderTimedOut):
        return False
    return (error.retry_after or 0) <= LONGEST_PAUSE


def _describe(target: Target, error: ProviderFailed) -> str:
    """`provider/model: why`, with the status that was received where there was one."""
    why = error.code or error.type
    if error.answered is not None:
        plain = error.code in (None, ProviderFailed.code)
        why = f"{error.answered}" if plain else f"{error.answered} {why}"
    return f"{target.upstream.provider.name}/{target.model[:_LONGEST_NAME]}: {why}"


def _exhausted(failures: Sequence[ProviderFailed]) -> ProviderFailed:
    """The last of the targets' failures, with the best of their hopes: one may be over its limit for
    a minute and the next one have no key."""
    assert failures, "a route has targets"
    error = failures[-1]
    waits = [failure.retry_after for failure in failures if failure.retryable]
    error.retryable = bool(waits)
    known = [wait for wait in waits if wait is not None]
    error.retry_after = min(known) if known and len(known) == len(waits) else None
    return error


async def _begin(
    request: ChatRequest, lane: Lane[Batch] | None, target: Target, deadline: float
) -> tuple[Batch, Timed]:
    provider = target.upstream.provider
    events = provider.stream(replace(request, model=target.model))
    timed = Timed(target.upstream.limits_for(request), provider.name, events, deadline, lane)
    batch = await timed.first()
    if batch is None:
        raise ProviderTruncated(f"The provider {provider.name!r} ended without an answer.")
    return batch, timed


async def _embed(request: EmbeddingRequest, target: Target, deadline: float) -> Embeddings:
    """In as many requests as the provider's limit makes of it."""
    provider, limits = target.upstream.provider, target.upstream.limits
    if not isinstance(provider, Embedder):
        raise InvalidRequest(f"The model {request.model!r} makes no embeddings.", param="model")
    vectors: list[Sequence[float] | str] = []
    usages: list[Usage | None] = []
    try:
        async with asyncio.timeout_at(deadline):
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
