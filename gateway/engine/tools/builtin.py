"""The tools that come with the gateway, made from rows of `tools` in `sluice.yaml`."""

from collections.abc import Callable, Mapping

from gateway.engine.tools import fields
from gateway.engine.tools.calculator import Calculator
from gateway.engine.tools.clock import CurrentTime
from gateway.engine.tools.egress import Egress
from gateway.engine.tools.tool import Tool
from gateway.engine.tools.web import MAX_COUNT, Brave, SearchBackend, SearxNG, WebSearch


def build(name: str, config: Mapping[str, object]) -> Tool:
    """A built-in tool by its type's name and its row without `type`.

    Raises `ValueError` in one line that names the field and what is expected. Does no I/O; a tool
    that holds connections has `aclose`.
    """
    if name not in _BUILDERS:
        raise ValueError(f"type: no built-in tool {name!r}{fields.hint(name, _BUILDERS)}")
    return _BUILDERS[name](config)


def _current_time(config: Mapping[str, object]) -> Tool:
    fields.check(config, ("timeout", "timezone"))
    return CurrentTime(
        timezone=fields.text(config, "timezone") or "UTC",
        timeout=fields.seconds(config, default=2.0),
    )


def _calculator(config: Mapping[str, object]) -> Tool:
    fields.check(config, ("timeout",))
    return Calculator(timeout=fields.seconds(config, default=2.0))


def _web_search(config: Mapping[str, object]) -> Tool:
    fields.check(config, ("backend", "url", "api_key", "count", "timeout", "allow"))
    url, key = fields.text(config, "url"), fields.text(config, "api_key")
    backend = fields.text(config, "backend") or ("brave" if key else "searxng")
    if backend not in _BACKENDS:
        raise ValueError(f"backend: no search backend {backend!r}{fields.hint(backend, _BACKENDS)}")
    timeout = fields.seconds(config, default=10.0)
    hosts = list(fields.hosts(config))
    if url is not None:
        hosts.append(fields.place(url))
    egress = Egress(hosts, timeout=timeout)
    return WebSearch(
        _BACKENDS[backend](url, key, egress),
        count=fields.number(config, "count", default=5, most=MAX_COUNT),
        timeout=timeout,
    )


def _searxng(url: str | None, key: str | None, egress: Egress) -> SearchBackend:
    if url is None:
        raise ValueError("url: searxng needs its address, like 'http://localhost:8080'")
    if key is not None:
        raise ValueError("api_key: searxng takes no key; remove it or set backend: brave")
    return SearxNG(url, egress)


def _brave(url: str | None, key: str | None, egress: Egress) -> SearchBackend:
    if key is None:
        raise ValueError("api_key: brave needs a key of the Brave Search API")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("api_key: expected printable ASCII characters without spaces")
    return Brave(key, egress, url=url or Brave.URL)


_BUILDERS: Mapping[str, Callable[[Mapping[str, object]], Tool]] = {
    "calculator": _calculator,
    "current_time": _current_time,
    "web_search": _web_search,
}
TYPES = tuple(_BUILDERS)

_BACKENDS: Mapping[str, Callable[[str | None, str | None, Egress], SearchBackend]] = {
    "brave": _brave,
    "searxng": _searxng,
}
