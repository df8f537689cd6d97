"""Tools from the rows of `tools` in `sluice.yaml`, of whatever type they are."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from gateway.engine.tools import builtin, fields
from gateway.engine.tools.http import HttpTool
from gateway.engine.tools.pins import Pins
from gateway.engine.tools.python import PythonTool
from gateway.engine.tools.tool import Source, Tool, Toolbox
from gateway.server import plugins
from gateway.server.settings import Settings, SettingsError

log = logging.getLogger(__name__)

_TYPES = (*builtin.TYPES, "http", "mcp", "python")


def rows(settings: Settings) -> dict[str, tuple[str, Mapping[str, object]]]:
    """Type and configuration of each tool, by name. Those that need no configuration are always there."""
    found: dict[str, tuple[str, Mapping[str, object]]] = {
        "current_time": ("current_time", {}),
        "calculator": ("calculator", {}),
    }
    if settings.searxng_url:
        found["web_search"] = ("web_search", {"backend": "searxng", "url": settings.searxng_url})
    elif settings.brave_api_key:
        key = settings.brave_api_key
        found["web_search"] = ("web_search", {"backend": "brave", "api_key": key})
    return found | {name: (row.type, row.own()) for name, row in settings.file.tools.items()}


def make(settings: Settings) -> dict[str, Tool | Toolbox]:
    """All of them, by the names of their rows. Raises `SettingsError`; connects to nothing."""
    tools: dict[str, Tool | Toolbox] = {}
    pins = Pins(settings.data_dir / "mcp-accepted.json")
    for name, (kind, config) in rows(settings).items():
        try:
            tools[name] = _make(name, kind, config, pins)
        except (ValueError, plugins.PluginError) as error:
            raise SettingsError(f"{settings.config}: tools.{name}: {error}") from None
    for box in (name for name, tool in tools.items() if isinstance(tool, Toolbox)):
        for name in tools:
            if name.startswith(f"{box}_"):
                raise SettingsError(
                    f"{settings.config}: tools.{name}: names with {box}_ are those of the tools of {box!r}"
                )
    return tools


@dataclass(slots=True)
class Single(Source):
    """One tool of a box, for a model that is not to have all of them."""

    box: Toolbox
    name: str
    missed: bool = False

    def tools(self) -> Sequence[Tool]:
        there = self.box.tools()
        found = [tool for tool in there if tool.name == self.name]
        if there and not found and not self.missed:
            self.missed = True
            log.warning(
                "a model is to have %s, which %s does not offer; it offers %s",
                self.name,
                self.box.name,
                ", ".join(tool.name for tool in there),
            )
        return found


def single(name: str, tools: Mapping[str, Tool | Toolbox]) -> Single | None:
    """The tool of a box that `name` would be: which tools it has is known only later."""
    for box in tools.values():
        if isinstance(box, Toolbox) and name.startswith(f"{box.name}_"):
            return Single(box, name)
    return None


def _make(name: str, kind: str, config: Mapping[str, object], pins: Pins) -> Tool | Toolbox:
    match kind:
        case "mcp":
            return _mcp(name, config, pins)
        case "python":
            return _python(name, config)
        case "http":
            return HttpTool(name, config)
        case _ if kind not in builtin.TYPES:
            raise ValueError(f"type: no such type of tool{fields.hint(kind, _TYPES)}")
        case _:
            tool = builtin.build(kind, config)
            tool.name = name  # a row's name is what models and notifications call it by
            return tool


def _mcp(name: str, config: Mapping[str, object], pins: Pins) -> Toolbox:
    try:
        made = plugins.attribute("gateway.engine.tools.mcp:McpServer")
    except plugins.PluginError as error:
        raise ValueError(
            f"type: mcp needs mcp, which is not installed: pip install '{plugins.DISTRIBUTION}[mcp]'"
        ) from error
    return cast(Callable[[str, Mapping[str, object], Pins], Toolbox], made)(name, config, pins)


def _python(name: str, config: Mapping[str, object]) -> Tool:
    call = config.get("call")
    if not isinstance(call, str):
        raise ValueError("call: expected module:function, like 'my_tools:find_order'")
    function = plugins.run(f"call: {call!r} cannot be loaded", lambda: plugins.attribute(call))
    if not callable(function) or isinstance(function, type):
        raise ValueError(f"call: {call!r} is no function")
    rest = {field: value for field, value in config.items() if field != "call"}
    try:
        return PythonTool(name, cast(Callable[..., object], function), rest)
    except ValueError as error:
        raise ValueError(f"call: {call!r}: {error}") from error
