"""The usage row of one call, from its opening to its settlement."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

from gateway.errors import LedgerUnavailable
from gateway.events import Complete, Error, Usage
from gateway.ports import Ledger
from gateway.records import ReceiptLine, RowStatus, UsageRow
from gateway.secrets import conceal
from gateway.server.interceptors.meter import Meter, Round, ToolUse
from gateway.server.prices import Prices

CLIENT_GONE = 499
"""What a row says for a client that left before there was a status, as nginx writes it."""

_LONGEST_ATTEMPTS = 1000
"""Characters that a row has for them."""


class Account:
    """Open durably before the first byte; settled exactly once, without waiting for anything."""

    def __init__(self, row: UsageRow, meter: Meter, ledger: Ledger, prices: Prices) -> None:
        self.meter = meter
        self._row = row
        self._ledger = ledger
        self._prices = prices
        self._opening: asyncio.Future[None] | None = None
        self._failure: Error | None = None
        """Of the ledger: what the client is told, whatever the engine has said."""
        self._counted = -1
        self.settled = False
        self.http_status: int | None = None
        """Of the response, once it has begun."""
        self.delivered = False
        """Whether all bytes of the answer were handed to the network."""

    def open(self) -> None:
        """Hands the row to the ledger, which makes it durable while the engine is asked. Raises
        `LedgerUnavailable`."""
        self._opening = self._ledger.open(self._row)

    def on_failure(self, tell: Callable[[LedgerUnavailable], None]) -> None:
        """`tell` is called should it turn out that the row cannot be written."""
        if self._opening is not None:
            self._opening.add_done_callback(partial(_pass_on, tell))

    async def opened(self) -> None:
        """Waits until the row is durable: to be called before a byte of the response goes out. Raises
        `LedgerUnavailable`. The row is to be settled all the same, with what the engine did meanwhile:
        it is written once one can be."""
        if self._opening is None:
            return
        try:
            # Shielded, since there may be another one who waits.
            await (self._opening if self._opening.done() else asyncio.shield(self._opening))
        except LedgerUnavailable as error:
            self._failure = error.event()
            raise

    def checkpoint(self) -> None:
        """Keep what was counted so far, if that is more than last time."""
        usage, _ = self.meter.usage(roughly=True)
        if usage.output_tokens != self._counted and not self.settled:
            self._counted = usage.output_tokens
            self._ledger.checkpoint(self._state("open"))

    def settle(self) -> UsageRow:
        """Hand the final row to the ledger. Further calls change nothing."""
        if not self.settled:
            self.settled = True
            self._row = self._state(self._status())
            self._ledger.settle(self._row)
        return self._row

    def _status(self) -> RowStatus:
        match self._failure or self.meter.end:
            case Error() as error:
                return "refused" if 400 <= error.status < 500 and self._at_fault(error) else "error"
            case Complete() if self.delivered:
                return "ok"
            case _:
                return "cancelled"

    def _at_fault(self, error: Error) -> bool:
        """Whether the request was: a limit or a conflict upstream is not its fault."""
        return error.type == "invalid_request_error"

    def _state(self, status: RowStatus) -> UsageRow:
        meter, end, step = self.meter, self._failure or self.meter.end, self.meter.step
        usage, counted = meter.usage(roughly=status == "open")
        cost = self._cost(usage, step.provider, step.model) if step is not None else 0
        if cost is not None:
            cost += sum(
                self._prices.tool_cost(line.name)
                for line in meter.story
                if isinstance(line, ToolUse)
            )
        row = self._row
        return UsageRow(  # and not `replace`, which takes three times as long
            id=row.id,
            started_at=row.started_at,
            key_id=row.key_id,
            email=row.email,
            type=row.type,
            model=row.model,
            stream=row.stream,
            provider=step.provider if step else row.provider,
            upstream_model=step.model if step else row.upstream_model,
            usage=usage,
            counted=counted,
            cost_nanos=cost,
            duration_ms=round(meter.duration * 1000),
            first_token_ms=None if meter.first_token is None else round(meter.first_token * 1000),
            steps=step.number if step else 0,
            tool_calls=meter.tool_calls,
            status=status,
            http_status=self._http_status(end),
            finish_reason=end.finish_reason if isinstance(end, Complete) else None,
            error_code=(end.code or end.type) if isinstance(end, Error) else None,
            attributes={**row.attributes, **self._attempts(end), **self._source(cost)},
            receipt=() if status == "open" else self._receipt(usage),
        )

    def _attempts(self, end: Complete | Error | None) -> Mapping[str, str]:
        attempts = [*self.meter.attempts, *(end.attempts if isinstance(end, Error) else ())]
        if not attempts:
            return {}
        # A model's name may be the client's own, and so a key where people mix up two fields.
        told = conceal("; ".join(attempts))
        if len(told) > _LONGEST_ATTEMPTS:
            told = told[: _LONGEST_ATTEMPTS - 1] + "…"
        return {"attempts": told}

    def _source(self, cost: int | None) -> Mapping[str, str]:
        """The list that the prices were taken from."""
        step = self.meter.step
        if step is None or cost is None:
            return {}
        source = self._prices.source(
            model=self._row.model, provider=step.provider, upstream_model=step.model
        )
        return {} if source is None else {"prices": source}

    def _receipt(self, total: Usage) -> Sequence[ReceiptLine]:
        usages = self._usages(total)
        return [
            self._round_line(line, usages.get(line.step.number))
            if isinstance(line, Round)
            else ReceiptLine(
                kind="tool",
                name=line.name,
                cost_nanos=self._prices.tool_cost(line.name),
                duration_ms=round(line.result.duration * 1000),
                status=line.result.status,
            )
            for line in self.meter.story
        ]

    def _round_line(self, line: Round, usage: Usage | None) -> ReceiptLine:
        step = line.step
        return ReceiptLine(
            kind="round",
            name=f"{step.provider}/{step.model}",
            usage=usage,
            cost_nanos=None if usage is None else self._price(usage, step.provider, step.model),
            duration_ms=round(line.seconds * 1000),
        )

    def _usages(self, total: Usage) -> Mapping[int, Usage | None]:
        """Of each round by its number, as far as it was told. A single one has all."""
        steps = [line.step for line in self.meter.story if isinstance(line, Round)]
        if len(steps) == 1:
            return {steps[0].number: total}
        if isinstance(self.meter.end, Complete):
            return {step.number: step.usage for step in self.meter.end.steps}
        told = {
            step.number: following.spent - step.spent
            for step, following in pairwise(steps)
            if following.spent != step.spent
        }
        if steps and len(told) == len(steps) - 1:
            told[steps[-1].number] = total - steps[-1].spent
        return told

    def _cost(self, usage: Usage, provider: str, model: str) -> int | None:
        """Of all steps, each at its own price; of `usage` as long as they are not told."""
        end = self.meter.end
        if (
            isinstance(end, Complete)
            and all(step.usage is not None for step in end.steps)
            and end.steps
        ):
            costs = [
                self._price(step.usage, step.provider, step.model)
                for step in end.steps
                if step.usage is not None
            ]
            return None if any(cost is None for cost in costs) else sum(cost or 0 for cost in costs)
        return self._price(usage, provider, model)

    def _price(self, usage: Usage, provider: str, model: str) -> int | None:
        return self._prices.cost(
            usage, model=self._row.model, provider=provider, upstream_model=model
        )

    def _http_status(self, end: Complete | Error | None) -> int | None:
        if self.http_status is not None:
            return self.http_status
        return end.status if isinstance(end, Error) else CLIENT_GONE


def _pass_on(tell: Callable[[LedgerUnavailable], None], opening: asyncio.Future[None]) -> None:
    if not opening.cancelled() and isinstance(error := opening.exception(), LedgerUnavailable):
        tell(error)
