"""`sluice`: what an operator does at a terminal. Tables and boxes for people, `--json` for programs."""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, TypeAlias, cast

import orjson
import typer
from dotenv import dotenv_values
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from gateway.ports import Ledger
from gateway.records import ApiKey, Dialect, MintedKey, UsageRow
from gateway.server import plugins
from gateway.server.ledgers import open_ledger
from gateway.server.mcp_commands import mcp_app
from gateway.server.report import key_fields, write_csv, write_jsonl
from gateway.server.settings import Settings, SettingsError
from gateway.server.sheets import sheets_app
from gateway.server.terminal import STATUS_COLOURS, plain

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A streaming gateway for AI clients. Settings come from the environment, .env and sluice.yaml.",
    epilog="Exit codes: 0 done, 1 a check failed, 2 a mistake in the command or the settings.",
)
keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
app.add_typer(keys_app, name="keys")
app.add_typer(sheets_app, name="sheets")
app.add_typer(mcp_app, name="mcp")

# Without a terminal there is no width to keep to.
out = Console(width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True)

Export: TypeAlias = Callable[[Ledger, Path, str | None, datetime | None, datetime | None], int]
"""A plug-in of `gateway.exports`: ledger, file, e-mail, since, until; returns the number of rows."""

Chat: TypeAlias = Callable[[str, str, str | None, str | None, bool], int]
"""`gateway.server.chat:run`: URL, key, model, prompt, whether as JSON; returns the exit code."""

Explain: TypeAlias = Callable[[Ledger, str, Console, bool], bool]
"""`gateway.server.explain:run`: ledger, id, where to show it, whether as JSON; whether it is known."""

Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table.")]
Email = Annotated[str | None, typer.Option(help="Only this user's.", metavar="EMAIL")]
Since = Annotated[
    str | None,
    typer.Option(help="From: 90m, 24h, 7d, or a date like 2026-11-30 (UTC).", metavar="WHEN"),
]
Until = Annotated[str | None, typer.Option(help="Until: the same forms.", metavar="WHEN")]
Reference = Annotated[
    str, typer.Argument(help="The key's id, its masked form, or the key itself.", metavar="KEY")
]


def main() -> None:
    """The entry point. Mistakes of the operator are one line each, and exit code 2."""
    try:
        app()
    except (SettingsError, plugins.PluginError) as error:
        err.print(f"[red]sluice:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A full disk behind standard output, most likely; nothing else is left untranslated.
        err.print(f"[red]sluice:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"sluice {version(plugins.DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    context.obj = _settings  # for commands of other modules


@app.command()
def serve() -> None:
    """Run the gateway until Ctrl-C or SIGTERM."""
    with suppress(KeyboardInterrupt):  # how it is meant to end
        _serving("serve")(_settings())


@app.command()
def dev() -> None:
    """Run the gateway for trying it out: readable logs, and a first key with commands to paste."""
    environ = _environ()
    environ.setdefault("SLUICE_LOG_FORMAT", "text")
    with suppress(KeyboardInterrupt):
        _serving("serve_dev")(Settings.load(environ))


@app.command()
def check(
    key: Annotated[str, typer.Argument(help="An API key of the gateway.", metavar="KEY")],
    url: Annotated[
        str | None,
        typer.Option(
            help="Base URL, without /v1. Default: where the settings listen.", metavar="URL"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model to ask. Default: demo, else the first.", metavar="MODEL"),
    ] = None,
) -> None:
    """Try a running gateway from outside: models, streams, notifications, usage rows."""
    settings = _settings()
    run = cast(Callable[[str, str, str | None], bool], plugins.load("", "gateway.server.check:run"))
    passed = run(_base_url(url, settings), key, model)
    raise typer.Exit(0 if passed else 1)


@app.command()
def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(help="One question. Default: a conversation.", metavar="PROMPT"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Base URL, without /v1. Default: where the settings listen.", metavar="URL"
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Default: SLUICE_KEY, else OPENAI_API_KEY.", metavar="KEY"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model to ask. Default: the first that is listed.", metavar="MODEL"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Every event as a line of JSON, for programs.")
    ] = False,
) -> None:
    """Talk to a running gateway: text, reasoning and tools as they come."""
    environ = _environ()
    # In .env the other name is where a provider's key is.
    key = key or environ.get("SLUICE_KEY") or os.environ.get("OPENAI_API_KEY")
    if not key:
        raise SettingsError(
            "no key; `sluice keys create you@example.com` makes one, for --key or SLUICE_KEY"
        )
    base = _base_url(url, Settings.load(environ))
    run = cast(Chat, plugins.load("", "gateway.server.chat:run"))
    raise typer.Exit(run(base, key, model, prompt, as_json))


@keys_app.command("create")
def create_key(
    email: Annotated[str, typer.Argument(help="Whose key it is.", metavar="EMAIL")],
    name: Annotated[str, typer.Argument(help="What it is for.", metavar="NAME")] = "",
    tier: Annotated[str, typer.Option(help="A tier of sluice.yaml.", metavar="TIER")] = "default",
    notifications: Annotated[
        Dialect | None, typer.Option(help="Dialect of tool_notification for this key.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown once: only a digest is kept."""
    settings = _settings()
    tiers = settings.file.tiers
    if tier != "default" and tier not in tiers:
        known = ", ".join(["default", *tiers])
        raise SettingsError(f"there is no tier {tier!r}; expected one of {known}")
    with _ledger(settings) as ledger:
        try:
            minted = ledger.create_key(email, name, tier, notifications)
        except ValueError as error:
            raise SettingsError(str(error)) from None
    _show_minted(minted, as_json)


@keys_app.command("list")
def list_keys(
    email: Email = None,
    everything: Annotated[bool, typer.Option("--all", help="Revoked keys as well.")] = False,
    as_json: Json = False,
) -> None:
    """Keys that work, oldest first; with --all those that were revoked, too."""
    with _ledger(_settings()) as ledger:
        keys = [
            key
            for key in ledger.keys()
            if (everything or not key.revoked) and (email is None or email.lower() == key.email)
        ]
    if as_json:
        _print_json([key_fields(key) for key in keys])
    elif keys:
        out.print(_key_table(keys))
    else:
        out.print("No keys. `sluice keys create EMAIL` makes one.")


@keys_app.command("show")
def show_key(reference: Reference, as_json: Json = False) -> None:
    """One key, with what it used."""
    with _ledger(_settings()) as ledger:
        _show_key(_find(ledger, reference), as_json)


@keys_app.command("revoke")
def revoke_key(reference: Reference, as_json: Json = False) -> None:
    """Refuse a key from now on; a running gateway learns of it within a second."""
    with _ledger(_settings()) as ledger:
        _show_key(ledger.revoke_key(_find(ledger, reference).id), as_json)


@keys_app.command("rotate")
def rotate_key(reference: Reference, as_json: Json = False) -> None:
    """Make a new key for the same user, name and tier, and revoke the old one."""
    with _ledger(_settings()) as ledger:
        try:
            minted = ledger.rotate_key(_find(ledger, reference).id)
        except ValueError as error:
            raise SettingsError(str(error)) from None
    _show_minted(minted, as_json)


@app.command()
def usage(
    email: Email = None,
    key: Annotated[
        str | None,
        typer.Option(help="Only this key's: its id, masked form or itself.", metavar="KEY"),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """Usage rows, the newest last; with --json one object per line."""
    with _ledger(_settings()) as ledger:
        rows = list(
            ledger.usage(
                email=email,
                key_id=_find(ledger, key).id if key else None,
                since=_moment(since),
                until=_moment(until),
                limit=limit,
                newest_first=True,
            )
        )[::-1]
    if as_json:
        write_jsonl(rows, sys.stdout)
    elif rows:
        out.print(_usage_table(rows))
    else:
        out.print("No usage rows yet.")


@app.command()
def explain(
    request_id: Annotated[
        str,
        typer.Argument(
            help="The x-request-id of a response, or the id of its chunks.", metavar="REQUEST_ID"
        ),
    ],
    as_json: Json = False,
) -> None:
    """The receipt of one request: who, what, how long, how much."""
    with _ledger(_settings()) as ledger:
        found = cast(Explain, plugins.load("", "gateway.server.explain:run"))(
            ledger, request_id, out, as_json
        )
    if not found:
        err.print(
            f"[red]sluice:[/] there is no request {_escape(request_id[:80])};"
            " `sluice usage --json` lists them with their ids",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)


@app.command()
def export(
    file: Annotated[
        Path | None,
        typer.Argument(help="Where to write. Default: standard output.", metavar="FILE"),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="jsonl, csv or xlsx. Default: by the file's name.", metavar="FORMAT"
        ),
    ] = None,
    email: Email = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """All usage rows, oldest first; xlsx is a workbook with the keys and a dashboard."""
    known = {"jsonl", "csv", *plugins.names("gateway.exports")}
    if form is None:
        suffix = "" if file is None else file.suffix.lower().removeprefix(".")
        form = suffix if suffix in known else "jsonl"
    if form not in known:
        raise SettingsError(f"--format: {form!r}; expected one of {', '.join(sorted(known))}")
    start, end = _moment(since), _moment(until)
    with _ledger(_settings()) as ledger:
        if form in ("jsonl", "csv"):
            write = write_csv if form == "csv" else write_jsonl
            rows = _with_progress(ledger.usage(email=email, since=start, until=end))
            if file is None:
                write(rows, sys.stdout)
                return
            with _replacing(file) as partial, partial.open("w", encoding="utf-8", newline="") as to:
                count = write(rows, to)
        elif file is None:
            raise SettingsError(f"{form} cannot be written to a terminal; name a file")
        else:
            write_file = cast(Export, plugins.load("gateway.exports", form))
            with _replacing(file) as partial, err.status("Writing"):
                count = write_file(ledger, partial, email, start, end)
    err.print(f"{count} rows written to {file}", soft_wrap=True)


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A file beside it that takes its place once it is whole, and is gone otherwise."""
    if file.is_dir():
        raise SettingsError(f"{file}: cannot be written: it is a folder")
    partial = file.with_name(file.name + ".part")
    try:
        yield partial
        partial.replace(file)
    except OSError as error:
        if error.strerror is None:  # the ledger's own words
            raise
        raise SettingsError(f"{file}: cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _base_url(url: str | None, settings: Settings) -> str:
    if url is None and settings.port == 0:
        raise SettingsError(
            "--url: missing; with SLUICE_PORT=0 only the gateway's log knows the port"
        )
    return (url or settings.url(settings.port)).rstrip("/").removesuffix("/v1")


def _environ() -> dict[str, str]:
    """The only place that reads the process's environment."""
    file = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return {**file, **os.environ}


def _settings() -> Settings:
    return Settings.load(_environ())


def _serving(name: str) -> Callable[[Settings], None]:
    # By name: the server and its SDKs take a second to import, which no other command should wait for.
    return cast(Callable[[Settings], None], plugins.load("", f"gateway.server.serving:{name}"))


@contextmanager
def _ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = open_ledger(settings)
    try:
        yield ledger
    except BrokenPipeError:
        raise
    except OSError as error:
        # A ledger says what is wrong in one line.
        raise SettingsError(str(error)) from None
    finally:
        ledger.close()


def _find(ledger: Ledger, reference: str) -> ApiKey:
    try:
        return ledger.key(reference)
    except KeyError as error:
        raise SettingsError(str(error.args[0])) from None


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if match := re.fullmatch(r"(\d+)([mhdw])", text):
            unit = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[match[2]]
            return datetime.now(UTC) - timedelta(**{unit: int(match[1])})
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{text!r:.80} is no time; expected 90m, 24h, 7d or 2026-11-30"
        ) from None


def _print_json(value: object) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _escape(text: str) -> str:
    """Text that is not ours, as a terminal may have it: no markup, and nothing that moves a cursor."""
    return plain(text).replace("[", r"\[")


def _show_minted(minted: MintedKey, as_json: bool) -> None:
    key = minted.key
    if as_json:
        _print_json({**key_fields(key), "secret": minted.secret})
        return
    grid = Table.grid(padding=(0, 2))
    for label, value in (
        ("User", key.email),
        ("Key", minted.secret),
        ("Name", key.name or "-"),
        ("Tier", key.tier),
    ):
        grid.add_row(label, f"[bold]{_escape(value)}[/]")
    # A key that is broken over two lines cannot be copied: the box is as wide as it has to be.
    width = max(out.width, len(minted.secret) + 16)
    Console(width=width).print(Panel(grid, title="New API key", expand=False, box=box.ROUNDED))
    out.print("[yellow]Keep it safe: the key is not shown again.[/] Only a digest of it is stored.")


def _show_key(key: ApiKey, as_json: bool) -> None:
    if as_json:
        _print_json(key_fields(key))
        return
    grid = Table.grid(padding=(0, 2))
    for name, value in key_fields(key).items():
        grid.add_row(name.replace("_", " "), _words(value))
    out.print(Panel(grid, title=_escape(key.masked), expand=False, box=box.ROUNDED))


def _words(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return _escape(str(value))


def _table(*headings: str, shrinks: Collection[str], right: Collection[str] = ()) -> Table:
    """Where there is no room, the columns of `shrinks` are shortened and no other: half an id or
    half a status is of no use."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(
            heading,
            no_wrap=heading not in shrinks,
            overflow="ellipsis",
            justify="right" if heading in right else "left",
        )
    return table


def _key_table(keys: Sequence[ApiKey]) -> Table:
    wide = out.width >= 120
    headings = ["Id", "Key", "User", "Name"]
    if wide:
        headings += ["Tier", "Created", "Last used", "Requests", "Tokens"]
    if any(key.revoked for key in keys):
        headings.append("Revoked")
    table = _table(*headings, shrinks=("User", "Name"), right=("Requests", "Tokens"))
    for key in keys:
        table.add_row(*_key_cells(key, wide))
    return table


def _key_cells(key: ApiKey, wide: bool) -> list[str]:
    cells = [key.id, key.masked, _escape(key.email), _escape(key.name)]
    if wide:
        cells += [
            _escape(key.tier),
            f"{key.created_at:%Y-%m-%d}",
            f"{key.last_used_at:%Y-%m-%d}" if key.last_used_at else "-",
            f"{key.requests:,}",
            f"{key.tokens:,}",
        ]
    if key.revoked_at:
        cells.append(f"[red]{key.revoked_at:%Y-%m-%d}[/]")
    return cells


def _usage_table(rows: Sequence[UsageRow]) -> Table:
    wide = out.width >= 120
    headings = ["Time (UTC)" if wide else "UTC", "User", "Model"]
    if wide:
        headings += ["Type", "Provider", "Secs"]
    headings += ["In", "Out", "Cost $", "Status"]
    if wide and any(row.error_code for row in rows):
        headings.append("Error")
    table = _table(
        *headings,
        shrinks=("User", "Model", "Provider", "Error"),
        right=("Secs", "In", "Out", "Cost $"),
    )
    for row in rows:
        table.add_row(*_usage_cells(row, wide))
    return table


def _usage_cells(row: UsageRow, wide: bool) -> list[str]:
    mark = {"reported": "", "estimated": "~", "partial": "≥"}[row.counted]
    more = [row.type, _escape(row.provider), f"{row.duration_ms / 1000:.2f}"] if wide else []
    return [
        f"{row.started_at:%m-%d %H:%M:%S}" if wide else f"{row.started_at:%H:%M:%S}",
        _escape(row.email),
        _escape(" ".join(row.model.split())),
        *more,
        f"{mark}{row.usage.input_tokens:,}",
        f"{mark}{row.usage.output_tokens:,}",
        "-" if row.cost_nanos is None else f"{row.cost_nanos / 1e9:.5f}",
        f"[{STATUS_COLOURS.get(row.status, 'red')}]{row.status}[/]",
        *([_escape(row.error_code)] if wide and row.error_code else []),
    ]


def _with_progress(rows: Iterator[UsageRow]) -> Iterator[UsageRow]:
    """The same rows, counted on the terminal when there are many."""
    if not err.is_terminal:
        yield from rows
        return
    with err.status("0 rows") as status:
        for count, row in enumerate(rows, 1):
            if count % 1000 == 0:
                status.update(f"{count:,} rows")
            yield row
