"""How long a model round may take, and how much a tool loop may do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """Seconds, for one round of one provider."""

    connect: float = 5.0
    first_event: float = 120.0
    idle: float = 120.0
    """Between two events; comments that a server sends to keep the line open do not count."""
    total: float = 600.0
    """From the first attempt on: pauses and further attempts are part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """What one answer may use up. Beyond them calls are denied and the model has to answer."""

    rounds: int = 16
    parallel_calls: int = 8
    calls: int = 64
    result_bytes: int = 256 * 1024
    """Longer tool results are cut, and say so."""
