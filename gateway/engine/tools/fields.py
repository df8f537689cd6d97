"""Fields of a tool's row in `sluice.yaml`, each checked in one line that names it."""

import difflib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

_MAX_TIMEOUT = 600.0
_SHORTEST_SECRET = 6
"""Characters. What is shorter is in many texts by chance."""
_SECRET = re.compile("key|token|secret|passw|auth|cookie|credential|sign", re.IGNORECASE)


def check(config: Mapping[str, object], known: Sequence[str]) -> None:
    """Raises `ValueError` for a field that there is not, like everything here."""
    for field in config:
        if field not in known:
            raise ValueError(f"{field}: no such field{hint(field, known)}")


def hint(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {sorted(known)}"


def text(config: Mapping[str, object], field: str) -> str | None:
    """None when absent or empty, as a setting from an unset variable is."""
    value = config.get(field)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{field}: expected text, not {type(value).__name__}")
    return value.strip() or None if value is not None else None


def flag(config: Mapping[str, object], field: str, *, default: bool = False) -> bool:
    value = config.get(field, default)
    if not isinstance(value, bool):
        raise ValueError(f"{field}: expected true or false, not {value!r}")
    return value


def seconds(config: Mapping[str, object], *, default: float, field: str = "timeout") -> float:
    value = config.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{field}: expected seconds, not {value!r}")
    if not 0 < value <= _MAX_TIMEOUT:
        raise ValueError(f"{field}: expected more than 0 and at most {_MAX_TIMEOUT:g} seconds")
    return float(value)


def number(config: Mapping[str, object], field: str, *, default: int, most: int) -> int:
    value = config.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{field}: expected a whole number from 1 to {most}, not {value!r}")
    return value


def texts(config: Mapping[str, object], field: str, *, of: str) -> Sequence[str]:
    """A list, or text with commas as it comes from a variable. `of` says of what, with an example."""
    value = config.get(field)
    if isinstance(value, str):
        value = [entry.strip() for entry in value.split(",") if entry.strip()]
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{field}: expected a list of {of}")
    return value


def pairs(config: Mapping[str, object], field: str) -> dict[str, str]:
    """Names and their texts. The values are never shown: they may be secrets."""
    value = config.get(field)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: expected a mapping of names to texts")
    for name, content in value.items():
        if isinstance(content, bool) or not isinstance(content, str | int | float):
            raise ValueError(f"{field}.{name}: expected text, not {type(content).__name__}")
    return {str(name): str(content) for name, content in value.items()}


def headers(config: Mapping[str, object]) -> dict[str, str]:
    found = pairs(config, "headers")
    for name, value in found.items():
        if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise ValueError(f"headers: {name!r} is no name of a header")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"headers.{name}: expected printable ASCII characters in one line")
    return found


def secrets(named: Mapping[str, str], url: str = "") -> Sequence[str]:
    """Which values of headers, variables and a URL's query nobody else is to see, the longest first."""
    all_named = [*named.items(), *parse_qsl(urlsplit(url).query)]
    values = {value for name, value in all_named if _SECRET.search(name)}
    values |= {value.rpartition(" ")[2] for value in values}  # of `Bearer …`
    return sorted(
        filter(lambda value: len(value) >= _SHORTEST_SECRET, values), key=len, reverse=True
    )


def hosts(config: Mapping[str, object]) -> Sequence[str]:
    return texts(config, "allow", of="hosts, like ['searx.lan:8080']")


def place(url: str) -> str:
    """Host and port of a URL that the operator gave."""
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
