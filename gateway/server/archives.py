"""The archive that the settings name, and how long it keeps what is in it."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import cast

from gateway.errors import LedgerUnavailable
from gateway.ports import Archive
from gateway.server import plugins
from gateway.server.settings import Settings, SettingsError

log = logging.getLogger(__name__)

_ROUND = 3600.0
"""Seconds between two looks for what is too old."""


def open_archive(settings: Settings) -> Archive | None:
    """Not started; None where nothing is to be kept. Raises `SettingsError`."""
    if not settings.retention:
        return None
    scheme = settings.archive_url.partition(":")[0]
    make = cast(Callable[[str], Archive], plugins.load("gateway.archives", scheme))
    try:
        return make(settings.archive_url)
    except ValueError as error:
        raise SettingsError(f"SLUICE_ARCHIVE: {error}") from None


async def expire(archive: Archive, days: float) -> None:
    """Runs for ever: deletes what was not changed for so many days."""
    while True:
        try:
            gone = await archive.expire(datetime.now(UTC) - timedelta(days=days))
        except LedgerUnavailable as error:
            log.warning("nothing expires: %s", error.message)
        else:
            if gone:
                log.info("%d answers and conversations were older than %g days", gone, days)
        await asyncio.sleep(_ROUND)
