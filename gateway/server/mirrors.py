"""The mirror that the settings ask for, if they do: keys and usage where people look at them."""

from collections.abc import Callable, Mapping
from typing import cast

from gateway.ports import Ledger, Mirror
from gateway.server import plugins
from gateway.server.settings import Settings, SettingsError


def open_mirror(settings: Settings, ledger: Ledger) -> Mirror | None:
    """Not started. Raises `SettingsError`. Without a spreadsheet nothing of it is even loaded."""
    if not settings.sheet_id:
        return None
    make = cast(
        Callable[[Ledger, Mapping[str, str | None]], Mirror],
        plugins.load("gateway.mirrors", "sheets"),
    )
    credentials = settings.google_credentials or settings.environ.get(
        "GOOGLE_APPLICATION_CREDENTIALS"
    )
    config = {
        "sheet_id": settings.sheet_id,
        "credentials": credentials,
        "api_base": settings.google_api_base,
        "full": str(settings.sheet_full),
        "tiers": ",".join(settings.file.tiers),
    }
    try:
        return make(ledger, config)
    except ValueError as error:
        raise SettingsError(str(error)) from None
