"""The only way out for tools: addresses are checked where the connection is made, not before it.

A name is resolved once, every address it has is checked, and the connection goes to exactly those
addresses; a redirect is a new request with the same checks. The rules are in docs/tools.md.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.engine.tools.tool import ToolFailed

Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a host name, as text. Raises `OSError` when there are none."""

MAX_BYTES = 2 * 1024 * 1024
MAX_REDIRECTS = 3
MAX_URL = 4096
TYPES = frozenset(
    {
        "application/json",
        "application/xhtml+xml",
        "application/xml",
        "text/html",
        "text/markdown",
        "text/plain",
        "text/xml",
    }
)

_PORTS = frozenset({80, 443})

# Python's own `is_global` differs between patch releases (192.0.0.0/24 among others), hence tables.
_CLOSED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this" network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba Cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform address, public by number only
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle Cloud's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Outside 2000::/3 nothing is global: loopback, mapped and compatible IPv4, NAT64, ULA, link-local.
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4, which wraps any IPv4 address
        "3fff::/20",
    )
)

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_-]+)*")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ALLOW = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+)(?::(?P<port>[0-9]{1,5}))?")


class EgressRefused(ToolFailed):
    """The guard does not let a request go there."""


class EgressFailed(ToolFailed):
    """The request was allowed but brought nothing usable."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, whatever its status. `body` is decoded and complete."""

    url: str
    status: int
    content_type: str
    body: bytes

    def json(self) -> object:
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise EgressFailed("The server's answer is not valid JSON.") from error


def is_global(address: str) -> bool:
    """Whether an address is on the public Internet, and nothing else hides in it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _CLOSED_V4)
    if parsed.scope_id is not None or parsed not in _OPEN_V6:
        return False
    return not any(parsed in network for network in _CLOSED_V6)


async def look_up(host: str, port: int) -> Sequence[str]:
    """The system's own resolver, `/etc/hosts` included."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Egress:
    """Fetches for tools, from public addresses and from the hosts that the operator listed.

    `allow` has entries `host` (its ports 80 and 443) or `host:port`; only those may be private or
    on another port. A redirect from elsewhere never benefits from the list. `close` when done.
    `sockets` makes the sockets, for a machine that has to choose an interface.
    """

    def __init__(
        self,
        allow: Collection[str] = (),
        *,
        timeout: float = 10.0,
        max_bytes: int = MAX_BYTES,
        lookup: Lookup = look_up,
        sockets: aiohttp.SocketFactoryType | None = None,
    ) -> None:
        self._allowed = frozenset(target for entry in allow for target in _targets(entry))
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._lookup = lookup
        self._sockets = sockets
        self._session: aiohttp.ClientSession | None = None

    async def fetch(
        self,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        types: Collection[str] = TYPES,
    ) -> Answer:
        """GET. `headers` go to the origin of `url` only, not to one that it redirects to."""
        target, sent = _parse(url), dict(headers or {})
        if query is not None:
            target = target.update_query(query)
        trusted = self._check(target, listed=True)
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(MAX_REDIRECTS + 1):
                    answer = await self._request(target, sent, types)
                    if isinstance(answer, Answer):
                        return answer
                    if answer.origin() != target.origin():
                        sent = {}
                    if (target.scheme, answer.scheme) == ("https", "http"):
                        raise EgressRefused(f"{target.host} redirects from https to http.")
                    trusted = self._check(answer, listed=trusted)
                    target = answer
        except TimeoutError as error:
            raise _late(target, self._timeout) from error
        raise EgressFailed(f"{target.host} redirects more than {MAX_REDIRECTS} times.")

    async def post(
        self,
        url: str,
        value: object,
        *,
        headers: Mapping[str, str] | None = None,
        types: Collection[str] = TYPES,
    ) -> Answer:
        """POST of a JSON value, as `send` does it."""
        return await self.send("POST", url, value=value, headers=headers, types=types)

    async def send(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        value: object = None,
        headers: Mapping[str, str] | None = None,
        types: Collection[str] = TYPES,
    ) -> Answer:
        """A request that may change something, with a JSON value unless that is None. A redirect is
        refused: the request is for this server alone."""
        target, sent = _parse(url), dict(headers or {})
        if query:
            target = target.update_query(query)
        data = None
        if value is not None:
            data = orjson.dumps(value)
            sent["Content-Type"] = "application/json"
        self._check(target, listed=True)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._request(target, sent, types, data, method)
        except TimeoutError as error:
            raise _late(target, self._timeout) from error
        if isinstance(answer, URL):
            raise EgressRefused(f"{target.host} redirects a request that may not be redirected.")
        return answer

    def check(self, url: str) -> None:
        """Raises `EgressRefused` if the URL alone gives away that it would be refused. Does no I/O."""
        self._check(_parse(url), listed=True)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _check(self, url: URL, *, listed: bool) -> bool:
        """Refuse what the URL alone gives away. True if the operator listed the place; `listed`
        says whether that may count."""
        host, port = url.raw_host or "", url.port or 0
        if (host, port) in self._allowed:
            if not listed:
                raise EgressRefused(f"A redirect to {host} is not allowed.")
            return True
        if port not in _PORTS:
            raise EgressRefused(f"Port {port} is not allowed, only 80 and 443 are.")
        if _is_literal(host) and not is_global(host):
            raise EgressRefused(f"{host} is not a public address.")
        return False

    async def _request(
        self,
        url: URL,
        headers: Mapping[str, str],
        types: Collection[str],
        data: bytes | None = None,
        method: str = "GET",
    ) -> "Answer | URL":
        """One request, already checked: the answer, or where a redirect points to."""
        try:
            async with self._open().request(
                method,
                url,
                headers={"Accept": ", ".join(sorted(types)), **headers},
                data=data,
                allow_redirects=False,
            ) as response:
                if response.status in (301, 302, 303, 307, 308):
                    response.close()  # its body is of no use and of any size
                    return _join(url, response.headers.get("Location", ""))
                return await self._read(response, types)
        except aiohttp.ClientConnectorDNSError as error:
            raise EgressFailed(f"{url.host} is not known: no address found.") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise EgressFailed(f"{url.host} has no valid certificate.") from error
        except aiohttp.ClientConnectionError as error:
            raise EgressFailed(f"{url.host} cannot be reached.") from error
        except aiohttp.ClientError as error:
            raise EgressFailed(f"{url.host} gave an answer that cannot be read.") from error

    async def _read(self, response: aiohttp.ClientResponse, types: Collection[str]) -> Answer:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status in (204, 205):  # have no body, hence no type
            return Answer(str(response.url), response.status, kind, b"")
        fits = kind in types or (kind.endswith("+json") and "application/json" in types)
        if not fits and response.ok:
            response.close()
            raise EgressFailed(f"{response.url.host} answered with {kind or 'no content type'}.")
        body = bytearray()
        if fits:
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > self._max_bytes:
                    response.close()
                    raise EgressFailed(
                        f"The answer of {response.url.host} is larger than {self._max_bytes} bytes."
                    )
        else:
            response.close()
        return Answer(str(response.url), response.status, kind, bytes(body))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Gate(self._lookup, self._allowed),
                    # Asked for every connection: what was checked is what is connected to.
                    use_dns_cache=False,
                    socket_factory=self._sockets,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "Sluice", "Accept-Encoding": "gzip, deflate"},
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._session


class _Gate(AbstractResolver):
    """Resolves for the connector, which connects to these addresses and no others."""

    def __init__(self, lookup: Lookup, allowed: frozenset[tuple[str, int]]) -> None:
        self._lookup = lookup
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup(host, port)
        if not addresses:
            raise OSError("no address found")
        if (host, port) not in self._allowed and not all(map(is_global, addresses)):
            raise EgressRefused(f"{host} does not have a public address.")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _parse(text: str) -> URL:
    """The URL as the client library reads it: nobody parses it a second time."""
    if len(text) > MAX_URL or _UNSAFE.search(text):
        raise EgressRefused("This is not a valid URL.")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError as error:
        raise EgressRefused("This is not a valid URL.") from error
    if url.scheme not in ("http", "https"):
        raise EgressRefused("Only http and https URLs are allowed.")
    if url.raw_user is not None or url.raw_password is not None:
        raise EgressRefused("A URL with a user name or password is not allowed.")
    if not host or not port:
        raise EgressRefused("This is not a valid URL.")
    if not _is_literal(host) and not _is_name(host):
        raise EgressRefused("The host of this URL is not written in its plain form.")
    return url.with_fragment(None)


def _join(base: URL, location: str) -> URL:
    if not location:
        raise EgressFailed(f"{base.host} redirects to nowhere.")
    if _UNSAFE.search(location):
        raise EgressRefused("This is not a valid URL.")
    try:
        joined = str(base.join(URL(location)))
    except ValueError as error:
        raise EgressRefused("This is not a valid URL.") from error
    return _parse(joined)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    """A host name, and no other spelling of an IPv4 address (`127.1`, `0x7f000001`, `2130706433`)."""
    return bool(_HOST_NAME.fullmatch(host)) and not _NUMERIC_LABEL.fullmatch(
        host.rpartition(".")[2]
    )


def _targets(entry: str) -> Sequence[tuple[str, int]]:
    """What an entry of the allow-list stands for, as the client library will name it."""
    match = _ALLOW.fullmatch(entry)
    try:
        host = URL(f"http://{match['host']}/").raw_host if match else None
    except ValueError:
        host = None
    port = int(match["port"]) if match and match["port"] else None
    if not host or not (_is_literal(host) or _is_name(host)) or (port is not None and port > 65535):
        raise ValueError(f"allow: {entry!r} is not a host or host:port, like 'searx.lan:8080'")
    return [(host, port)] if port is not None else [(host, known) for known in sorted(_PORTS)]


def _late(url: URL, timeout: float) -> EgressFailed:
    return EgressFailed(f"{url.host} did not answer within {timeout:g} s.")
