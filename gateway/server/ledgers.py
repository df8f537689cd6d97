"""The ledger that the settings name. Apart from the rest, so that commands need not wait for it."""

from collections.abc import Callable
from typing import cast

from gateway.ports import Ledger
from gateway.server import plugins
from gateway.server.settings import Settings, SettingsError


def open_ledger(settings: Settings) -> Ledger:
    """Not started. Raises `SettingsError`."""
    scheme = settings.ledger_url.partition(":")[0]
    make = cast(Callable[[str], Ledger], plugins.load("gateway.ledgers", scheme))
    try:
        return make(settings.ledger_url)
    except ValueError as error:
        raise SettingsError(f"SLUICE_LEDGER: {error}") from None
