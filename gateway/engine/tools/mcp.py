"""Tools of MCP servers that the operator named: one task each keeps the connection.

Calls come from other tasks and only borrow the session; whoever opened it closes it, which the SDK
insists on. Nothing a server says is trusted: definitions are pinned, results are bounded and marked.
"""

import asyncio
import hashlib
import logging
import os
import random
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

import anyio
import mcp_types
from mcp import Client, MCPError, StdioServerParameters
from pydantic import ValidationError
from pydantic_core import to_json

from gateway.engine.tools import fields
from gateway.engine.tools.mcp_transport import child, http
from gateway.engine.tools.pins import Definition, Digests, Pins, digest
from gateway.engine.tools.tool import Tool, ToolContext, ToolFailed
from gateway.events import Json
from gateway.secrets import conceal

log = logging.getLogger(__name__)

# What the SDK logs of a message that it cannot read is the message, which may be anybody's secret.
logging.getLogger("mcp").setLevel(logging.CRITICAL)

_LONGEST_NAME = 64
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\U000e0000-\U000e007f]+"
)
"""Control and format characters that people do not see: overrides of direction, tag letters."""

_FIELDS = (
    "command",
    "args",
    "env",
    "cwd",
    "url",
    "headers",
    "only",
    "timeout",
    "start_timeout",
    "max_bytes",
    "trusted",
    "pin",
)
_LONGEST_DESCRIPTION = 8_000
_MOST_PAGES = 50

_LOST = ("Connection closed", "SSE stream ")
"""What the SDK says of a connection that ended. Its code is one that servers use for their own."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
"""Seconds between attempts to connect; twice as long after each that fails."""
_STEADY = 30.0
"""Seconds after which a connection was a good one, and a new series of attempts begins."""
_LOOK = 2.0
"""Seconds between looks at the file of accepted definitions."""
_LIST = 60.0
"""Seconds between questions for the definitions, which are the sign of life as well."""
_LIST_WAIT = 20.0
_PATIENCE = 5.0
"""Seconds that a call waits for a server that is being reconnected to."""
_GOODBYE = 10.0
"""Seconds for a server to end. The SDK kills a process that has not after some of them."""


class McpTool:
    """One tool of a server, as it was defined when it was accepted."""

    def __init__(self, server: "McpServer", name: str, definition: mcp_types.Tool) -> None:
        self.name = name
        self.remote = definition.name
        self.description, self.parameters = _told(definition)
        self.digest = _digest(definition)
        self.timeout = server.timeout
        self.server = server.name
        self.trusted = server.trusted
        self._server = server

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        return await self._server.call(self, arguments, context)


@dataclass(slots=True)
class Listing:
    """What a server says that its tools are, and what is made of it."""

    tools: list[McpTool] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    """Not there when the server was accepted. Withheld, as are the changed ones."""
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Accepted, and not there any more."""

    @property
    def withheld(self) -> list[str]:
        return [*self.changed, *self.new]


class McpServer:
    """A server and its tools. `start` connects, and keeps trying until `aclose`."""

    def __init__(self, name: str, config: Mapping[str, object], pins: Pins) -> None:
        """Raises `ValueError` in one line that names the field. Does no I/O."""
        fields.check(config, _FIELDS)
        self.name = name
        self.timeout = fields.seconds(config, default=60.0)
        self.trusted = fields.flag(config, "trusted")
        self._start_timeout = fields.seconds(config, default=60.0, field="start_timeout")
        self._most = fields.number(config, "max_bytes", default=65_536, most=1 << 20)
        self._only = fields.texts(config, "only", of="names that the server gives its tools")
        self._pins = pins if fields.flag(config, "pin", default=True) else None
        self._secrets: Sequence[str] = ()
        self._said: deque[str] = deque()
        self._target = self._read_target(config)
        self._definitions: Sequence[mcp_types.Tool] = ()
        self._listing = Listing()
        self._judged_by: Digests | None = None
        self._client: Client | None = None
        self._ready = asyncio.Event()
        self._tried = asyncio.Event()
        self._news = asyncio.Event()
        self._calls = 0
        self._ended = False
        self._ask = False
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    def _read_target(
        self, config: Mapping[str, object]
    ) -> StdioServerParameters | tuple[str, Mapping[str, str]]:
        command, url = fields.text(config, "command"), fields.text(config, "url")
        if (command is None) == (url is None):
            raise ValueError(
                "expected command (a program to start) or url (of a streamable HTTP server)"
            )
        foreign = ("args", "env", "cwd") if command is None else ("headers",)
        for name in foreign:
            if name in config:
                raise ValueError(
                    f"{name}: is for a server with {'command' if command is None else 'url'}"
                )
        env, headers = fields.pairs(config, "env"), fields.headers(config)
        if url is not None:
            fields.place(url)
            self._secrets = fields.secrets(headers, url)
            return url, headers
        self._secrets = fields.secrets(env)
        return StdioServerParameters(
            command=command or "",
            args=list(fields.texts(config, "args", of="words, like ['-y', 'some-server']")),
            env=env,
            cwd=fields.text(config, "cwd"),
            encoding_error_handler="replace",
        )

    # What the gateway asks of it.

    def tools(self) -> Sequence[Tool]:
        """The last accepted ones, also while the server is away: a call says what is the matter."""
        return self._listing.tools

    def status(self) -> Mapping[str, object]:
        """For whoever looks whether all is well; without anything that is not for everybody."""
        if self._client is None:
            return {"state": "down" if self._tried.is_set() else "starting"}
        withheld = self._listing.withheld
        return {"state": "up", "tools": len(self._listing.tools)} | (
            {"withheld": len(withheld)} if withheld else {}
        )

    async def start(self) -> None:
        """Returns when the first attempt to connect has ended, one way or the other."""
        self._task = asyncio.create_task(self._supervise(), name=f"mcp {self.name}")
        await self._tried.wait()

    async def aclose(self) -> None:
        self._tried.set()
        if self._task is None:
            return
        self._task.cancel()
        done, _ = await asyncio.wait([self._task], timeout=_GOODBYE)
        if not done:
            log.error("the MCP server %s did not end", self.name)

    async def inspect(self) -> Sequence[Definition]:
        try:
            async with asyncio.timeout(self._start_timeout), self._connect() as client:
                self._definitions = await self._fetch(client)
        except Exception as error:  # whatever a server of somebody's makes of the SDK
            raise ToolFailed(self._reason(error)) from error
        listing, found = self._judge(), list[Definition]()
        unseen = self._pins is not None and self._judged_by is None
        for definition in self._definitions:
            words, _ = _told(definition)
            state: Literal["accepted", "new", "changed", "left out"] = "accepted"
            if self._leaves_out(definition):
                state = "left out"
            elif definition.name in listing.changed:
                state = "changed"
            elif unseen or definition.name in listing.new:
                state = "new"
            found.append(Definition(definition.name, words, state))
        return [*found, *(Definition(name, "", "gone") for name in listing.gone)]

    def accept(self) -> None:
        if self._pins is not None:
            self._pins.accept(self.name, {tool.name: _digest(tool) for tool in self._definitions})

    # The connection.

    async def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            since = time.monotonic()
            try:
                await self._serve()
                problem = self._reason(None)
            except Exception as error:  # whatever a server of somebody's makes of the SDK
                problem = self._reason(error)
            finally:
                self._client = None
                self._ready.clear()
            self._tried.set()
            if time.monotonic() - since > _STEADY:
                pause = _FIRST_PAUSE
            if problem != self._problem or pause <= _FIRST_PAUSE:
                log.error("the MCP server %s is down: %s", self.name, problem)
            self._problem = problem
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _serve(self) -> None:
        """One connection, from its beginning to its end."""
        self._ended = self._ask = False
        self._said.clear()
        async with asyncio.timeout(self._start_timeout) as limit, self._connect() as client:
            await self._list(client)
            limit.reschedule(None)
            self._client = client
            self._ready.set()
            self._tried.set()
            self._problem = ""
            self._said.clear()  # of how it was found out which age of the protocol it speaks
            log.info("the MCP server %s is up, with %d tools", self.name, len(self._listing.tools))
            await self._watch(client)

    async def _watch(self, client: Client) -> None:
        """Returns when the connection has ended, raises when it is of no use any more."""
        due = time.monotonic() + _LIST
        while not self._ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._news.wait()
            self._news.clear()
            if self._ended:
                return
            if self._ask or time.monotonic() >= due:
                self._ask = False
                try:
                    async with asyncio.timeout(_LIST_WAIT):
                        await self._list(client)
                except TimeoutError as error:
                    if not self._calls:  # which many servers do one at a time
                        raise ConnectionError("it does not answer any more") from error
                due = time.monotonic() + _LIST
            elif self._pins is not None and self._pins.accepted(self.name) != self._judged_by:
                self._take(self._judge())

    def _connect(self) -> AbstractAsyncContextManager[Client]:
        match self._target:
            case StdioServerParameters():
                streams = child(self._target, self._said, self._end)
            case url, headers:
                streams = http(url, headers, self._said, self._end)
        return Client(
            streams,
            client_info=mcp_types.Implementation(name="Sluice", version=version("sluice-gateway")),
            message_handler=self._hear,
            cache=None,
        )

    def _end(self) -> None:
        self._ended = True
        self._client = None  # at once: the next call must not borrow it
        self._ready.clear()
        self._news.set()

    def _doubt(self) -> None:
        """Have the server asked for its tools, to see whether it is still there."""
        self._ask = True
        self._news.set()

    async def _hear(self, message: mcp_types.ServerNotification | Exception) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._doubt()

    # Its tools.

    async def _list(self, client: Client) -> None:
        self._definitions = await self._fetch(client)
        if self._pins is not None and self._pins.accepted(self.name) is None:
            try:
                self.accept()
            except OSError as error:
                log.error("the tools of %s cannot be pinned: %s", self.name, error)
            else:
                log.info("the tools of %s are accepted as they are now", self.name)
        self._take(self._judge())

    async def _fetch(self, client: Client) -> list[mcp_types.Tool]:
        found: dict[str, mcp_types.Tool] = {}
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                found.setdefault(tool.name, tool)
            cursor = page.next_cursor
            if cursor is None:
                break
        return list(found.values())

    def _leaves_out(self, definition: mcp_types.Tool) -> bool:
        return bool(self._only) and definition.name not in self._only

    def _judge(self) -> Listing:
        """What of the definitions may be offered."""
        accepted = None if self._pins is None else self._pins.accepted(self.name)
        self._judged_by = accepted
        listing, names = Listing(), set[str]()
        for definition in self._definitions:
            if self._leaves_out(definition):
                continue
            if accepted is not None and definition.name not in accepted:
                listing.new.append(definition.name)
            elif accepted is not None and accepted[definition.name] != _digest(definition):
                listing.changed.append(definition.name)
            elif (name := _name(self.name, definition.name)) not in names:
                names.add(name)
                listing.tools.append(McpTool(self, name, definition))
        there = {definition.name for definition in self._definitions}
        listing.gone = [name for name in accepted or () if name not in there]
        return listing

    def _take(self, listing: Listing) -> None:
        withheld = listing.withheld
        if withheld and withheld != self._listing.withheld:
            log.error(
                "the MCP server %s has changed what it says of its tools: %s withheld until accepted; "
                "look at it with `sluice mcp list %s`, accept it with `sluice mcp accept %s`",
                self.name,
                ", ".join(withheld),
                self.name,
                self.name,
            )
        missing = set(self._only) - {definition.name for definition in self._definitions}
        if missing and not self._tried.is_set():
            log.warning("the MCP server %s has no %s", self.name, ", ".join(sorted(missing)))
        self._listing = listing

    # Its calls.

    async def call(
        self, tool: McpTool, arguments: Mapping[str, object], context: ToolContext
    ) -> str:
        client = await self._reach()
        if all(tool.digest != there.digest for there in self._listing.tools):
            raise ToolFailed(f"{tool.name} has changed, and is not available until it is accepted.")

        async def report(progress: float, total: float | None, message: str | None) -> None:
            context.report(self._clean(message or ""), progress, total)

        self._calls += 1
        try:
            result = await client.call_tool(tool.remote, dict(arguments), progress_callback=report)
        except MCPError as error:
            self._doubt()
            if self._client is not client or error.message.startswith(_LOST):
                raise ToolFailed(f"The server {self.name} went away before it answered.") from error
            raise ToolFailed(
                self._clean(f"The server {self.name} refused: {error.message}")
            ) from error
        except (OSError, RuntimeError, ValidationError, anyio.ClosedResourceError) as error:
            # Of the SDK: no session any more, or a result that is not what was announced.
            self._doubt()
            log.warning("the MCP server %s: %s", self.name, type(error).__name__)
            raise ToolFailed(
                f"The server {self.name} gave an answer that cannot be read."
            ) from error
        except ValueError as error:  # of the SDK, before anything was sent
            log.warning("the MCP server %s: %s", self.name, type(error).__name__)
            raise ToolFailed(
                "These arguments cannot be sent: are they nested too deeply?"
            ) from error
        finally:
            self._calls -= 1
        text = _cap(self._clean(_write(result)), self._most)
        if result.is_error:
            raise ToolFailed(text or "The tool failed.")
        return text or "Done."

    async def _reach(self) -> Client:
        if self._client is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._ready.wait()
        if self._client is None:
            raise ToolFailed(f"The server {self.name} cannot be reached at present.")
        return self._client

    def _clean(self, text: str) -> str:
        """Visible text without what only the server was to know."""
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return _HIDDEN.sub("", text)

    def _reason(self, error: BaseException | None) -> str:
        """One line for the operator's log."""
        while isinstance(error, BaseExceptionGroup) and error.exceptions:
            error = error.exceptions[0]
        match error:
            case None:
                words = "the connection ended"
            case TimeoutError():
                words = f"no answer in {self._start_timeout:g} s"
            case FileNotFoundError():
                words = f"there is no program or folder {self._missing()!r}"
            case MCPError():
                words = error.message
            case _:
                words = f"{type(error).__name__}: {error}"
        if self._said:
            words = f"{words}; it said: {self._said[-1]}"
        return conceal(" ".join(self._clean(words).split()))[:500]

    def _missing(self) -> str:
        """Of a program that was not found, the folder or the name: not every loop tells which."""
        if not isinstance(self._target, StdioServerParameters):
            return ""
        folder = self._target.cwd
        return str(folder) if folder and not os.path.isdir(folder) else self._target.command


def _told(definition: mcp_types.Tool) -> tuple[str, Json]:
    """Description and schema, as models are told them."""
    words = definition.description or definition.title or definition.name
    schema = {"properties": {}, **definition.input_schema, "type": "object"}
    schema.pop("$schema", None)  # which some providers do not take
    return _HIDDEN.sub("", words)[:_LONGEST_DESCRIPTION], schema


def _digest(definition: mcp_types.Tool) -> str:
    return digest(definition.name, *_told(definition))


def _name(server: str, tool: str) -> str:
    """`server_tool`, in the letters and the length that all providers take."""
    name = f"{server}_{re.sub('[^a-zA-Z0-9_-]', '_', tool)}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}_{hashlib.sha256(tool.encode()).hexdigest()[:8]}"


def _write(result: mcp_types.CallToolResult) -> str:
    parts = [_part(block) for block in result.content]
    if not parts and result.structured_content is not None:
        parts = [to_json(result.structured_content).decode()]
    return "\n".join(part for part in parts if part)


def _part(block: mcp_types.ContentBlock) -> str:
    match block:
        case mcp_types.TextContent():
            return block.text
        case mcp_types.ImageContent() | mcp_types.AudioContent():
            return f"[{block.type}, {block.mime_type}: not shown]"
        case mcp_types.ResourceLink():
            return f"[{block.name}: {block.uri}]"
        case mcp_types.EmbeddedResource(resource=mcp_types.TextResourceContents() as text):
            return text.text
        case mcp_types.EmbeddedResource():
            return f"[{block.resource.uri}: not shown]"


def _cap(text: str, most: int) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= most:
        return text
    return f"{data[:most].decode('utf-8', 'ignore')}\n[cut: {len(data) - most} bytes more]"
