"""Which models there are, for `GET /v1/models`."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from gateway.engine.router import Router
from gateway.errors import GatewayError
from gateway.events import Json

log = logging.getLogger(__name__)

_FRESH = 60.0
"""Seconds for which a provider's own list is believed."""
_AGAIN = 5.0
"""Seconds after which it is asked again when it did not answer."""
_PATIENCE = 3.0
"""Seconds to wait for it. Clients give the whole list about ten."""


@dataclass(slots=True)
class _Listing:
    names: tuple[str, ...] = ()
    read_at: float = -_FRESH
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Models:
    """The names of the settings, and `provider/model` for what providers list themselves."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._created = int(time.time())
        self._listings = {name: _Listing() for name in router.upstreams}

    async def list(self, tier: str) -> list[Json]:
        """What a key of this tier may ask for."""
        bodies = {
            name: self._body(name, route.owner, route.title)
            for name, route in self._router.routes.items()
            if route.admits(tier)
        }
        if not self._router.virtual_only:
            listed = self._targets()
            for provider, names in zip(
                self._listings, await asyncio.gather(*map(self._ask, self._listings)), strict=True
            ):
                for name in names:
                    if (provider, name) not in listed:
                        bodies[f"{provider}/{name}"] = self._body(f"{provider}/{name}", provider)
        return list(bodies.values())

    def describe(self, name: str, tier: str) -> Json:
        """Raises `UnknownModel`, also for what a key of this tier may not use."""
        route = self._router.resolve(name, tier)
        return self._body(name, route.owner, route.title)

    def _targets(self) -> set[tuple[str, str]]:
        """What a bare name stands for is not listed twice."""
        return {
            (route.targets[0].upstream.provider.name, name)
            for name, route in self._router.routes.items()
            if route.targets[0].model == name
        }

    def _body(self, name: str, owner: str, title: str = "") -> Json:
        body = {"id": name, "object": "model", "created": self._created, "owned_by": owner}
        return {**body, "name": title} if title else body

    async def _ask(self, provider: str) -> tuple[str, ...]:
        listing = self._listings[provider]
        async with listing.lock:
            if time.monotonic() - listing.read_at >= _FRESH:
                listing.read_at = time.monotonic()
                try:
                    async with asyncio.timeout(_PATIENCE):
                        listing.names = tuple(
                            await self._router.upstreams[provider].provider.models()
                        )
                except (GatewayError, TimeoutError) as error:
                    # The last list stands: a provider that is down still has its models.
                    listing.read_at -= _FRESH - _AGAIN
                    log.warning("provider %s does not list its models: %s", provider, error)
        return listing.names
