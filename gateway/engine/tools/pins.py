"""Which definitions of servers' tools the operator has accepted, by their digests, in a file.

A server can change what its tools say of themselves at any time, and models obey what they read
there. So a definition is taken once, when its server is seen first, and later ones are withheld
until somebody accepts them.
"""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import orjson

log = logging.getLogger(__name__)

Digests = Mapping[str, str]
"""Of a server's tools, by the names that it gives them."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a server says of one of its tools, and what the operator makes of it."""

    name: str
    description: str
    state: Literal["accepted", "new", "changed", "gone", "left out"]
    """`left out` by the row of the server, whatever it says."""


@runtime_checkable
class Inspectable(Protocol):
    """A box of tools whose definitions somebody has to accept."""

    name: str

    async def inspect(self) -> Sequence[Definition]:
        """Connects once, without offering anything to anybody. Raises `ToolFailed`."""
        ...

    def accept(self) -> None:
        """Takes the definitions that were inspected last. Raises `OSError`."""
        ...


def digest(name: str, description: str, parameters: Mapping[str, object]) -> str:
    """Of all that a model is told of a tool."""
    told = orjson.dumps([name, description, parameters], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(told).hexdigest()


class Pins:
    """The file. Another process may change it while this one runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._servers: dict[str, dict[str, str]] = {}
        self._read_at: tuple[int, int] | None = None

    def accepted(self, server: str) -> Digests | None:
        """None for a server that was not seen yet. Raises `ValueError` for a file that is none of ours."""
        self.refresh()
        return self._servers.get(server)

    def refresh(self) -> bool:
        """Reads the file if it has changed, and says whether it had."""
        try:
            status = self.path.stat()
            state = (status.st_mtime_ns, status.st_size)
            if state == self._read_at:
                return False
            read: object = orjson.loads(self.path.read_bytes())
        except FileNotFoundError:
            # Removed by the operator: what this process knows still holds.
            return False
        except (OSError, orjson.JSONDecodeError) as error:
            raise ValueError(f"{self.path}: cannot be read: {error}") from error
        if not isinstance(read, dict) or not all(map(_is_digests, read.values())):
            raise ValueError(f"{self.path}: expected digests by servers and tools")
        self._servers, self._read_at = read, state
        return True

    def accept(self, server: str, digests: Digests) -> None:
        """Takes these for what the server's tools have to be. Raises `OSError`."""
        try:
            self.refresh()
        except ValueError:
            log.exception("%s is written anew", self.path)
        self._servers[server] = dict(digests)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        draft.write_bytes(orjson.dumps(self._servers, option=orjson.OPT_INDENT_2))
        draft.replace(self.path)
        status = self.path.stat()
        self._read_at = (status.st_mtime_ns, status.st_size)


def _is_digests(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())
