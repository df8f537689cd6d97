"""What is made once at start and shared by all calls."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.engine.router import Router
from gateway.engine.tools.tool import Closable, Tool, Toolbox
from gateway.ports import Archive, Engine, Interceptor, Ledger, Mirror
from gateway.server.calls import Calls
from gateway.server.conversations import Conversations
from gateway.server.models import Models
from gateway.server.prices import Prices
from gateway.server.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    settings: Settings
    ledger: Ledger
    router: Router
    models: Models
    engine: Engine
    prices: Prices
    calls: Calls
    tools: Sequence[Tool | Toolbox]
    interceptors: Sequence[Interceptor]
    """The operator's own, in order; the first is the nearest to the client."""
    mirror: Mirror | None = None
    archive: Archive | None = None
    conversations: Conversations | None = None
    """None where nothing is kept."""

    @property
    def boxes(self) -> Sequence[Toolbox]:
        return [tool for tool in self.tools if isinstance(tool, Toolbox)]

    async def start(self, patience: float) -> None:
        """Have servers of tools connected to. One that takes longer than `patience` is not waited for."""
        starting = [asyncio.create_task(box.start()) for box in self.boxes]
        if starting:
            await asyncio.wait(starting, timeout=patience)

    async def aclose(self) -> None:
        """Let go of every connection to providers, of engines and of tools. The ledger is closed apart."""
        for route in self.router.routes.values():
            if isinstance(route.engine, Closable):
                await route.engine.aclose()
        for upstream in self.router.upstreams.values():
            await upstream.provider.aclose()
        closable = [tool for tool in self.tools if isinstance(tool, Closable)]
        await asyncio.gather(*(tool.aclose() for tool in closable))
