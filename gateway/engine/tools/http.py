"""A tool that is one request to an HTTP service of the operator's choice, described in the settings."""

import logging
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

import orjson

from gateway.engine.tools import fields
from gateway.engine.tools.egress import Answer, Egress, EgressFailed, EgressRefused
from gateway.engine.tools.tool import ToolContext, ToolFailed
from gateway.events import Json

log = logging.getLogger(__name__)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MAX_BYTES = 1 << 20
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_KNOWN_OF_CALL = ("email", "key_name", "caller", "conversation", "user", "request_id", "call_id")
_LONGEST_REFUSAL = 2_000
"""Characters of what a service says to a request that it does not like."""
_FIELDS = (
    "description",
    "url",
    "method",
    "parameters",
    "query",
    "headers",
    "context",
    "timeout",
    "max_bytes",
    "allow",
)
_ORIGIN = re.compile(r"https?://[^/?#{}\s]+(?:[/?#]|$)", re.IGNORECASE)
"""Fixed by the operator: no argument may choose whom to ask."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class HttpTool:
    """Puts a model's arguments into a URL, a query and a JSON body, and gives back what is answered.

    An argument that the URL names goes there; the others go into the body of POST, PUT and PATCH,
    or into the query.
    """

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        """Raises `ValueError` in one line that names the field."""
        fields.check(config, _FIELDS)
        description, url = fields.text(config, "description"), fields.text(config, "url")
        if description is None:
            raise ValueError("description: expected words by which models choose it")
        if url is None:
            raise ValueError("url: expected one like 'https://shop.example/orders/{number}'")
        self.name = name
        self.description = description
        self.parameters, self._properties, self._required = _schema(config.get("parameters"))
        self.timeout = fields.seconds(config, default=10.0)
        self._url = url
        self._method = _method(config)
        self._placed = _placeholders(url, self._properties, self._required)
        self._query = _query(config, url, self._method, self._properties, self._placed)
        self._headers = fields.headers(config)
        self._context = _context(config)
        self._most = fields.number(config, "max_bytes", default=65_536, most=MAX_BYTES)
        # The call's own time limit is the one that is told of.
        self._egress = Egress(fields.hosts(config), timeout=self.timeout + 1)
        try:
            self._egress.check(_PLACEHOLDER.sub("x", url))
        except EgressRefused as error:
            raise ValueError(
                f"url: {error} If it is meant, add allow: [{_place(url)!r}]"
            ) from error
        self._secrets = fields.secrets(self._headers, url)

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        self._check(arguments)
        url = _PLACEHOLDER.sub(lambda match: _segment(match[1], arguments[match[1]]), self._url)
        if any(part in (".", "..") for part in urlsplit(url).path.split("/")):
            raise ToolFailed(f"The arguments do not fit: {', '.join(sorted(self._placed))}.")
        rest = {name: value for name, value in arguments.items() if name not in self._placed}
        query = {
            name: _plain(rest.pop(name))
            for name in list(rest)
            if self._query is None or name in self._query
        }
        headers = {**self._headers, **self._told(context)}
        try:
            if self._method == "GET":
                answer = await self._egress.fetch(url, query=query, headers=headers)
            else:
                body = rest if self._method in _WITH_BODY else None
                answer = await self._egress.send(
                    self._method, url, query=query, value=body, headers=headers
                )
        except (EgressFailed, EgressRefused) as error:
            # It names the operator's own host, which callers have no business with.
            log.warning("%s: %s", self.name, error)
            raise ToolFailed("The service cannot be used at present.") from error
        return self._read(answer)

    async def aclose(self) -> None:
        await self._egress.close()

    def _check(self, arguments: Mapping[str, object]) -> None:
        """As far as it matters for the request; the rest is the service's to check."""
        lines = [f"{name}: missing." for name in self._required if name not in arguments]
        for name, value in arguments.items():
            if name not in self._properties:
                lines.append(f"{name}: there is no such argument.")
            elif words := _misfit(self._properties[name], value):
                lines.append(f"{name}: {words}")
        if lines:
            raise ToolFailed("\n".join(["The arguments do not fit.", *lines[:8]]))

    def _told(self, context: ToolContext) -> dict[str, str]:
        """Headers with what is known of the call. What is not known is sent as nothing, so that a
        service cannot take its absence for somebody else's request."""
        return {
            header: quote(str(getattr(context, field) or ""), safe=" !#$&'()*+,/:;=?@[]~")
            for header, field in self._context.items()
        }

    def _read(self, answer: Answer) -> str:
        if answer.status in (401, 403):
            log.warning("%s: the service refuses its credentials: %d", self.name, answer.status)
            raise ToolFailed(f"The service refused, with status {answer.status}.")
        text = answer.body.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        if answer.status >= 500:
            log.warning("%s: the service answered %d", self.name, answer.status)
            raise ToolFailed(f"The service failed, with status {answer.status}.")
        if answer.status >= 400:
            words = f"The service did not accept this, with status {answer.status}."
            raise ToolFailed(f"{words}\n{text[:_LONGEST_REFUSAL]}".strip())
        if not text.strip():
            return "Done."
        data = text.encode()
        if len(data) <= self._most:
            return text
        kept = data[: self._most].decode("utf-8", "ignore")
        return f"{kept}\n[cut: {len(data) - self._most} bytes more]"


def _schema(value: object) -> tuple[Json, dict[str, Json], Sequence[str]]:
    """The JSON schema for models, its properties, and which of them there have to be."""
    if value is None:
        value = {}
    if not isinstance(value, Mapping) or value.get("type", "object") != "object":
        raise ValueError("parameters: expected a JSON schema of an object")
    properties, required = value.get("properties", {}), value.get("required", [])
    if not isinstance(properties, Mapping) or not all(
        isinstance(name, str) and isinstance(schema, Mapping) for name, schema in properties.items()
    ):
        raise ValueError("parameters.properties: expected a mapping of names to JSON schemas")
    if not isinstance(required, list):
        raise ValueError("parameters.required: expected a list of names")
    for name in required:
        if name not in properties:
            raise ValueError(f"parameters.required: there is no property {name!r}")
    schema: Json = {
        "additionalProperties": False,
        **value,
        "type": "object",
        "properties": properties,
    }
    return schema, dict(properties), required


def _method(config: Mapping[str, object]) -> str:
    method = (fields.text(config, "method") or "GET").upper()
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, not {method!r}")
    return method


def _placeholders(
    url: str, properties: Mapping[str, Json], required: Sequence[str]
) -> frozenset[str]:
    if not _ORIGIN.match(url):
        raise ValueError(
            f"url: expected one like 'https://shop.example/orders/{{number}}', not {url!r}"
        )
    names = frozenset(_PLACEHOLDER.findall(url))
    for name in sorted(names):
        if name not in properties:
            raise ValueError(f"url: {{{name}}} is no property of parameters")
        if name not in required:
            raise ValueError(f"url: {{{name}}} has to be among parameters.required")
    return names


def _query(
    config: Mapping[str, object],
    url: str,
    method: str,
    properties: Mapping[str, Json],
    placed: frozenset[str],
) -> frozenset[str] | None:
    """Names of the arguments that go into the query; None for all that are not in the URL."""
    names = fields.texts(config, "query", of="names of parameters")
    for name in names:
        if name not in properties or name in placed:
            raise ValueError(f"query: {name!r} is no property of parameters that is not in the URL")
    found = frozenset(names) if method in _WITH_BODY else None
    fixed = {part.partition("=")[0] for part in urlsplit(url).query.split("&")}
    for name in properties.keys() - placed if found is None else found:
        if name in fixed:
            raise ValueError(f"url: its query has {name!r} already, which is a property as well")
    return found


def _context(config: Mapping[str, object]) -> Mapping[str, str]:
    found = fields.pairs(config, "context")
    for header, name in found.items():
        if name not in _KNOWN_OF_CALL:
            raise ValueError(f"context.{header}: {fields.hint(name, _KNOWN_OF_CALL)[2:]}")
    fields.headers({"headers": dict.fromkeys(found, "")})
    return found


def _place(url: str) -> str:
    try:
        return fields.place(_PLACEHOLDER.sub("x", url))
    except ValueError:
        return "host:port"


def _misfit(schema: Json, value: object) -> str | None:
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    allowed = [kind for name in names for kind in _TYPES.get(str(name), ())]
    fits = type(value) in allowed or (
        isinstance(value, float) and value.is_integer() and int in allowed
    )
    if allowed and not fits:
        return f"expected {' or '.join(map(str, names))}, not {_show(value)}."
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return f"expected one of {', '.join(map(str, choices))}, not {_show(value)}."
    return None


def _segment(name: str, value: object) -> str:
    """A value in its place in the URL, out of which it cannot break."""
    text = _plain(value)
    if not text.strip():
        raise ToolFailed(f"{name}: expected something, not {text!r}.")
    return quote(text, safe="")


def _plain(value: object) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return orjson.dumps(value).decode()


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"
