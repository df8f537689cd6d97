"""What goes wrong, told call by call or by chance."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

On = Literal["read", "write", "token", "sheets", "any"]  # sheets: reads and writes


class Fault(StrEnum):
    QUOTA = "429"
    INTERNAL = "500"
    UNAVAILABLE = "503"
    HTML = "502, an HTML page"
    RESET = "reset before applying"
    HANG = "hang, then reset, before applying"
    SLOW = "slow, then applied"
    EXPIRED = "401"
    STALE = "a read of the state before the last write"
    RESET_AFTER = "reset after applying"
    INTERNAL_AFTER = "500 after applying"
    UNAVAILABLE_AFTER = "503 after applying"
    HTML_AFTER = "502, an HTML page, after applying"
    HANG_AFTER = "hang, then reset, after applying"

    @property
    def after(self) -> bool:
        """Whether the call took effect."""
        return self.name.endswith("_AFTER") or self in (Fault.SLOW, Fault.STALE)


# What a client has to survive without losing or doubling anything.
TRANSIENT = (
    Fault.QUOTA,
    Fault.INTERNAL,
    Fault.UNAVAILABLE,
    Fault.HTML,
    Fault.RESET,
    Fault.EXPIRED,
    Fault.RESET_AFTER,
    Fault.INTERNAL_AFTER,
    Fault.UNAVAILABLE_AFTER,
    Fault.HTML_AFTER,
)


@dataclass
class _Plan:
    kinds: Sequence[Fault]
    on: On
    skip: int
    times: int | None  # None: for ever
    share: float


class Faults:
    """Plans are asked in the order they were made; the first that applies decides.

    `seconds` is how long HANG and SLOW take.
    """

    def __init__(self) -> None:
        self.seconds = 30.0
        self._plans: list[_Plan] = []
        self._chance = random.Random(0)
        self._lock = threading.Lock()

    def next(self, fault: Fault, times: int = 1, *, on: On = "sheets", skip: int = 0) -> None:
        """The next `times` calls fail, after `skip` that do not."""
        self._plan(_Plan([fault], on, skip, times, 1.0))

    def at(self, call: int, fault: Fault, *, on: On = "sheets") -> None:
        """The `call`-th call from now, counted from 1, fails."""
        self.next(fault, on=on, skip=call - 1)

    def share(
        self,
        share: float,
        kinds: Sequence[Fault] = TRANSIENT,
        *,
        on: On = "sheets",
        seed: int = 0,
    ) -> None:
        """This share of the calls fails, until `clear`: `share(0.12)` for 12 %."""
        self._chance = random.Random(seed)
        self._plan(_Plan(list(kinds), on, 0, None, share))

    @contextmanager
    def outage(self, fault: Fault = Fault.UNAVAILABLE, *, on: On = "any") -> Iterator[None]:
        """Every call fails meanwhile."""
        plan = _Plan([fault], on, 0, None, 1.0)
        self._plan(plan)
        try:
            yield
        finally:
            with self._lock:
                if plan in self._plans:
                    self._plans.remove(plan)

    def clear(self) -> None:
        with self._lock:
            self._plans.clear()

    def take(self, kind: str) -> Fault | None:
        """What happens to this call."""
        with self._lock:
            for plan in self._plans:
                if plan.on not in ("any", kind) and not (plan.on == "sheets" and kind != "token"):
                    continue
                if plan.skip:
                    plan.skip -= 1
                    continue
                if plan.share < 1 and self._chance.random() >= plan.share:
                    continue
                if plan.times is not None:
                    plan.times -= 1
                    if plan.times <= 0:
                        self._plans.remove(plan)
                return self._chance.choice(plan.kinds) if len(plan.kinds) > 1 else plan.kinds[0]
        return None

    def _plan(self, plan: _Plan) -> None:
        with self._lock:
            self._plans.append(plan)
