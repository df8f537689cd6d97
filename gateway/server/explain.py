"""The receipt of one request: `sluice explain REQUEST_ID`."""

from collections.abc import Iterator

import orjson
from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.ports import Ledger
from gateway.records import UsageRow
from gateway.server.report import row_fields, row_id
from gateway.server.terminal import STATUS_COLOURS, plain

_COUNTED = {
    "reported": "",
    "estimated": " (estimated: the provider reported none)",
    "partial": " (estimated, of an answer that was cut)",
}


def run(ledger: Ledger, reference: str, console: Console, as_json: bool) -> bool:
    """Shows the row of a request, by the `x-request-id` of its response or by the `chatcmpl-…` id that
    its chunks carry. Returns whether there is one; it may be of a request that still runs."""
    row = ledger.row(row_id(reference.strip()))
    if row is None:
        return False
    if as_json:
        print(orjson.dumps(row_fields(row), option=orjson.OPT_INDENT_2).decode())
    else:
        console.print(_page(row, ledger))
    return True


def _page(row: UsageRow, ledger: Ledger) -> Panel:
    parts: list[RenderableType] = []
    for title, lines in (
        ("Request", _request(row, ledger)),
        ("Answer", _answer(row)),
        ("Tokens", _tokens(row)),
        ("Time", _time(row)),
        (
            "Attributes",
            iter([(name, Text(plain(row.attributes[name]))) for name in row.attributes]),
        ),
    ):
        grid = Table.grid(padding=(0, 2))
        grid.add_column(min_width=14, style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in lines:
            grid.add_row(plain(label), value)
        if grid.row_count:
            parts += [Text(title, style="bold"), grid, Text()]
    if row.receipt:
        parts += [Text("Receipt", style="bold"), _receipt(row), Text()]
    return Panel(Group(*parts[:-1]), title=row.id, box=box.ROUNDED, expand=False, padding=(1, 2))


def _receipt(row: UsageRow) -> Table:
    """What came one after the other, and what each of it cost."""
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="dim")
    for title in ("", "In", "Out", "Secs", "Cost $"):
        table.add_column(title, justify="left" if not title else "right", overflow="fold")
    for line in row.receipt:
        name = Text(plain(line.name) if line.kind == "round" else f"  {plain(line.name)}")
        if line.status != "ok":
            name.append(f" ({line.status})", style="red")
        usage = line.usage
        table.add_row(
            name,
            "" if usage is None else f"{usage.input_tokens:,}",
            "" if usage is None else f"{usage.output_tokens:,}",
            f"{line.duration_ms / 1000:.2f}",
            "?" if line.cost_nanos is None else f"{line.cost_nanos / 1e9:.6f}",
        )
    return table


def _request(row: UsageRow, ledger: Ledger) -> Iterator[tuple[str, Text]]:
    yield "Who", Text(plain(row.email))
    yield "Key", Text(plain(_key(row.key_id, ledger)))
    yield "When", Text(f"{row.started_at:%Y-%m-%d %H:%M:%S} UTC")
    yield "Wire", Text(plain(row.type) + (", streamed" if row.stream else ", whole"))
    model = Text(plain(" ".join(row.model.split())) or "-")
    if row.provider:
        model.append(f" → {plain(row.provider)}/{plain(row.upstream_model)}")
    yield "Model", model


def _key(key_id: str, ledger: Ledger) -> str:
    try:
        key = ledger.key(key_id)
    except KeyError:
        return key_id
    name = f" {key.name}" if key.name else ""
    return f"{key.masked}{name} ({key_id}{', revoked' if key.revoked else ''})"


def _answer(row: UsageRow) -> Iterator[tuple[str, Text]]:
    status = Text(row.status, style=STATUS_COLOURS.get(row.status, "red"))
    if row.http_status is not None:
        status.append(f" (HTTP {row.http_status})", style="default")
    yield "Status", status
    if row.error_code:
        yield "Error", Text(plain(row.error_code), style="red")
    if row.finish_reason:
        yield "Finish reason", Text(plain(row.finish_reason))
    yield "Model rounds", Text(f"{row.steps:,}")
    yield "Tool calls", Text(f"{row.tool_calls:,}")


def _tokens(row: UsageRow) -> Iterator[tuple[str, Text]]:
    usage = row.usage
    cached = [
        f"{count:,} {what}"
        for count, what in (
            (usage.cached_tokens, "from a cache"),
            (usage.cache_write_tokens, "written to one"),
        )
        if count
    ]
    yield "In", Text(f"{usage.input_tokens:,}" + (f" ({', '.join(cached)})" if cached else ""))
    thoughts = f" ({usage.reasoning_tokens:,} of reasoning)" if usage.reasoning_tokens else ""
    yield "Out", Text(f"{usage.output_tokens:,}{thoughts}{_COUNTED[row.counted]}")
    price = "no price is known" if row.cost_nanos is None else f"${row.cost_nanos / 1e9:.6f}"
    yield "Cost", Text(price)


def _time(row: UsageRow) -> Iterator[tuple[str, Text]]:
    if row.first_token_ms is not None:
        yield "First token", Text(f"{row.first_token_ms / 1000:.2f} s")
    yield "Duration", Text(f"{row.duration_ms / 1000:.2f} s")
