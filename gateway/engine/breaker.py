"""Which targets have failed so often that others are asked before them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a target is left alone, and for how long."""

    failures: int = 5
    """So many in a row open the breaker; fewer than two are no pattern."""
    window: float = 60.0
    """Seconds within which they have to lie."""
    pause: float = 30.0
    """Seconds until one request tries the target again."""


class Breaker:
    """Counts the failures of one target.

    It never refuses a request: who asks puts a target whose breaker is open behind the others. An
    open breaker admits one request each `pause` seconds, the probe; its success closes the breaker.
    A probe that is cancelled says nothing, and the next one is due a pause later: no state can stick.
    """

    def __init__(self, rules: BreakerRules, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=rules.failures)
        self._probe_at: float | None = None
        """When the next probe is due; None while the breaker is closed."""

    def admit(self) -> bool:
        """Whether to ask the target in its turn. Takes the probe, where one is due."""
        if self._probe_at is None:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._rules.pause
        return True

    def succeeded(self) -> None:
        self._failures.clear()
        self._probe_at = None

    def failed(self) -> bool:
        """Whether this failure is the one that opened it."""
        now = self._clock()
        self._failures.append(now)
        if self._probe_at is not None:
            self._probe_at = now + self._rules.pause
            return False
        full = len(self._failures) == self._rules.failures
        if full and now - self._failures[0] <= self._rules.window:
            self._probe_at = now + self._rules.pause
            return True
        return False
