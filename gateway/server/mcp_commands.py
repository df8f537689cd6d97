"""`sluice mcp`: what servers of tools offer, and what of it is accepted."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeAlias, cast

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.engine.tools.pins import Definition, Inspectable
from gateway.engine.tools.tool import ToolFailed
from gateway.server import plugins
from gateway.server.settings import Settings, SettingsError
from gateway.server.terminal import plain

mcp_app = typer.Typer(
    no_args_is_help=True, help="Look at the tools of MCP servers, and accept them (docs/tools.md)."
)

# Without a terminal there is no width to keep to.
out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)

_Make: TypeAlias = Callable[[Settings], Mapping[str, object]]

_COLOURS = {
    "accepted": "green",
    "new": "yellow",
    "changed": "red",
    "gone": "dim",
    "left out": "dim",
}


@mcp_app.command("list")
def list_tools(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only this one's.", metavar="SERVER")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON for programs instead of a table.")
    ] = False,
) -> None:
    """Ask each server for its tools. Nothing is accepted by that. Exit code 1 if one is not there."""
    servers = _servers(context)
    chosen = list(servers.values()) if name is None else [_find(servers, name)]
    found = asyncio.run(_inspect(chosen))
    if as_json:
        sys.stdout.buffer.write(b"".join(_line(server, answer) for server, answer in found.items()))
    else:
        for server, answer in found.items():
            _show(server, answer)
    if any(isinstance(answer, ToolFailed) for answer in found.values()):
        raise typer.Exit(1)


@mcp_app.command("accept")
def accept(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SERVER")],
) -> None:
    """Accept what a server says of its tools now. A running gateway offers them within seconds."""
    server = _find(_servers(context), name)
    [answer] = asyncio.run(_inspect([server])).values()
    _show(name, answer)
    if isinstance(answer, ToolFailed):
        raise typer.Exit(1)
    server.accept()
    # Those that are left out, too: whether they are is the row's to say, at any time.
    out.print(f"[green]Accepted:[/] {sum(found.state != 'gone' for found in answer)} tools.")


async def _inspect(
    servers: Sequence[Inspectable],
) -> dict[str, Sequence[Definition] | ToolFailed]:
    async def one(server: Inspectable) -> Sequence[Definition] | ToolFailed:
        try:
            return await server.inspect()
        except ToolFailed as error:
            return error

    answers = await asyncio.gather(*map(one, servers))
    return {server.name: answer for server, answer in zip(servers, answers, strict=True)}


def _show(name: str, answer: Sequence[Definition] | ToolFailed) -> None:
    if isinstance(answer, ToolFailed):
        out.print(f"[bold]{name}[/]: [red]cannot be asked:[/]", Text(plain(str(answer))))
        return
    # What a server writes is for nobody's terminal to obey.
    table = Table("tool", "", "what it says of itself", title=name, title_justify="left")
    for found in answer:
        words = " ".join(plain(found.description).split())
        state = Text(found.state, style=_COLOURS[found.state])
        table.add_row(Text(plain(found.name)), state, Text(words))
    out.print(table)


def _line(name: str, answer: Sequence[Definition] | ToolFailed) -> bytes:
    if isinstance(answer, ToolFailed):
        return orjson.dumps({"server": name, "error": str(answer)}) + b"\n"
    return b"".join(
        orjson.dumps(
            {
                "server": name,
                "tool": found.name,
                "state": found.state,
                "description": found.description,
            }
        )
        + b"\n"
        for found in answer
    )


def _servers(context: typer.Context) -> dict[str, Inspectable]:
    # How settings are read is known by who reads the environment.
    settings = cast(Callable[[], Settings], context.obj)()
    plugins.look_in(settings.config.parent)
    # By name: tools take a quarter of a second to import, which no other command should wait for.
    make = cast(_Make, plugins.load("", "gateway.server.toolbox:make"))
    made = make(settings)
    return {name: tool for name, tool in made.items() if isinstance(tool, Inspectable)}


def _find(servers: dict[str, Inspectable], name: str) -> Inspectable:
    if name not in servers:
        known = ", ".join(servers) or "none: a row of tools with type: mcp makes one"
        raise SettingsError(f"there is no MCP server {name!r}; there are {known}")
    return servers[name]
