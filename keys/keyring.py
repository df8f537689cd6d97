"""All keys in memory, for the hot path."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.records import ApiKey
from keys.digest import digest
from keys.mint import usable


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with what it is found by. `revision` orders its states."""

    digest: bytes
    key: ApiKey
    revision: int


class Keyring:
    """Finds a key by its secret in the same time however many there are. Safe between threads."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}

    def find(self, secret: str) -> ApiKey | None:
        if not usable(secret):
            return None
        wanted = digest(secret)
        entry = self._entries.get(wanted)
        # The digest of a random secret tells nothing by its time, but this costs nothing either.
        if entry is None or not hmac.compare_digest(entry.digest, wanted):
            return None
        return entry.key

    def install(self, entries: Iterable[Entry]) -> None:
        """Takes over keys that are newer than the known ones: two threads may bring them."""
        for entry in entries:
            known = self._entries.get(entry.digest)
            if known is None or known.revision <= entry.revision:
                self._entries[entry.digest] = entry
