"""Peers that vanished: a pulled cable, a phone out of reach. Nobody tells a server that they are gone.

The kernel's own limit (TCP_USER_TIMEOUT) would not do: it ends a peer that merely does not read at the
same time, and that one has the longer `send_timeout`. But a peer that is there acknowledges what it
gets, be it only that it has no room. Linux counts what is not acknowledged; elsewhere the system's own
patience has to do, some fifteen minutes.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable

_INTERVAL = 5.0
"""Seconds between two looks."""
_SILENCE = 45_000
"""Milliseconds without any acknowledgement. With heartbeats every 15 s a peer is given up within 60 s of
its last sign of life."""
_UNANSWERED = 3
"""Repetitions without an answer. One or two are mere loss."""

# struct tcp_info of <linux/tcp.h>: retransmits and probes among its first bytes, and the age of the
# last acknowledgement as the thirteenth of the 32-bit numbers after them.
_INFO = struct.Struct("=2xBB4x48xI")

vanishing_is_told = hasattr(socket, "TCP_INFO")


def has_vanished(connection: socket.socket) -> bool:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    retransmits, probes, silence = _INFO.unpack(info)
    return bool(silence > _SILENCE and max(retransmits, probes) >= _UNANSWERED)


async def give_up(transports: Callable[[], Iterable[asyncio.Transport]]) -> None:
    """Runs for ever: closes the connections of peers that vanished."""
    while vanishing_is_told:
        await asyncio.sleep(_INTERVAL)
        for transport in list(transports()):
            connection = transport.get_extra_info("socket")
            if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            try:
                gone = has_vanished(connection)
            except OSError:  # closed meanwhile
                continue
            if gone:
                transport.abort()
