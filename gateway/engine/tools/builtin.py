"""The tools that come with the gateway, made from rows of `tools` in `sluice.yaml`."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from gateway.engine.tools.calculator import Calculator
from gateway.engine.tools.clock import CurrentTime
from gateway.engine.tools.egress import Egress
from gateway.engine.tools.tool import Tool
from gateway.engine.tools.web import MAX_COUNT, Brave, SearchBackend, SearxNG, WebSearch

_MAX_TIMEOUT = 600.0


def build(name: str, config: Mapping[str, object]) -> Tool:
    """A built-in tool by its type's name and its row without `type`.

    Raises `ValueError` in one line that names the field and what is expected. Does no I/O; a tool
    that holds connections has `aclose`.
    """
    if name not in _BUILDERS:
        raise ValueError(f"type: no built-in tool {name!r}{_hint(name, _BUILDERS)}")
    return _BUILDERS[name](config)


def _current_time(config: Mapping[str, object]) -> Tool:
    _check_fields(config, ("timeout", "timezone"))
    return CurrentTime(
        timezone=_text(config, "timezone") or "UTC", timeout=_seconds(config, default=2.0)
    )


def _calculator(config: Mapping[str, object]) -> Tool:
    _check_fields(config, ("timeout",))
    return Calculator(timeout=_seconds(config, default=2.0))


def _web_search(config: Mapping[str, object]) -> Tool:
    _check_fields(config, ("backend", "url", "api_key", "count", "timeout", "allow"))
    url, key = _text(config, "url"), _text(config, "api_key")
    backend = _text(config, "backend") or ("brave" if key else "searxng")
    if backend not in _BACKENDS:
        raise ValueError(f"backend: no search backend {backend!r}{_hint(backend, _BACKENDS)}")
    timeout = _seconds(config, default=10.0)
    hosts = list(_hosts(config))
    if url is not None:
        hosts.append(_place(url))
    egress = Egress(hosts, timeout=timeout)
    return WebSearch(
        _BACKENDS[backend](url, key, egress), count=_count(config, default=5), timeout=timeout
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
_BACKENDS: Mapping[str, Callable[[str | None, str | None, Egress], SearchBackend]] = {
    "brave": _brave,
    "searxng": _searxng,
}


def _check_fields(config: Mapping[str, object], known: Sequence[str]) -> None:
    for field in config:
        if field not in known:
            raise ValueError(f"{field}: no such field{_hint(field, known)}")


def _hint(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {sorted(known)}"


def _text(config: Mapping[str, object], field: str) -> str | None:
    """None when absent or empty, as a setting from an unset variable is."""
    value = config.get(field)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{field}: expected text, not {type(value).__name__}")
    return value.strip() or None if value is not None else None


def _seconds(config: Mapping[str, object], *, default: float) -> float:
    value = config.get("timeout", default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"timeout: expected seconds, not {value!r}")
    if not 0 < value <= _MAX_TIMEOUT:
        raise ValueError(f"timeout: expected more than 0 and at most {_MAX_TIMEOUT:g} seconds")
    return float(value)


def _count(config: Mapping[str, object], *, default: int) -> int:
    value = config.get("count", default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
        raise ValueError(f"count: expected a whole number from 1 to {MAX_COUNT}, not {value!r}")
    return value


def _hosts(config: Mapping[str, object]) -> Sequence[str]:
    """A list, or text with commas as it comes from a variable."""
    value = config.get("allow")
    if isinstance(value, str):
        value = [entry.strip() for entry in value.split(",") if entry.strip()]
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("allow: expected a list of hosts, like ['searx.lan:8080']")
    return value


def _place(url: str) -> str:
    """Host and port of a URL that the operator gave, which is thereby allowed."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or urlsplit(url).scheme not in ("http", "https") or "@" in url:
        raise ValueError(f"url: expected one like 'http://localhost:8080', not {url!r}")
    if port is None:
        port = 443 if url.lower().startswith("https:") else 80
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
