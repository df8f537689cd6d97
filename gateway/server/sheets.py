"""`sluice sheets`: the spreadsheet from the operator's side."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, cast
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import orjson
import typer

from gateway.ports import Mirror
from gateway.server.ledgers import open_ledger
from gateway.server.mirrors import open_mirror
from gateway.server.settings import Settings, SettingsError

sheets_app = typer.Typer(
    no_args_is_help=True, help="Keys and usage in a Google spreadsheet (docs/sheets.md)."
)

_PATIENCE = 5.0


@sheets_app.command("init")
def init(context: typer.Context) -> None:
    """Make the tabs in a spreadsheet that was shared with the service account. Again changes nothing."""
    with _mirror(_settings(context)) as mirror:
        _tell(mirror.init())


@sheets_app.command("reconcile")
def reconcile(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found.")] = False,
) -> None:
    """Compare the ids of usage rows in the ledger and in the spreadsheet.

    The exit status is 1 when something differs and was not mended.
    """
    same = False

    def run(mirror: Mirror) -> Iterator[str]:
        nonlocal same
        same = yield from mirror.reconcile(repair=repair)

    with _mirror(_settings(context)) as mirror:
        _tell(run(mirror))
    raise typer.Exit(0 if same else 1)


@sheets_app.command("dashboard")
def dashboard(context: typer.Context) -> None:
    """Write the dashboard anew. Charts and cells that you added beside it stay."""
    with _mirror(_settings(context)) as mirror:
        _tell(mirror.repair_dashboard())


@sheets_app.command("audit")
def audit(
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Argument(help="Only this key's: its id, masked form or itself.", metavar="KEY"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line instead of words.")
    ] = False,
) -> None:
    """Changes of keys that were made in the spreadsheet, the newest last."""
    with _mirror(_settings(context)) as mirror:
        try:
            entries = list(mirror.audit(key, limit))
        except KeyError as error:
            raise SettingsError(str(error.args[0])) from None
    for entry in entries:
        print(orjson.dumps(entry).decode() if as_json else _words(entry))
    if not entries and not as_json:
        print("Nothing was changed in the spreadsheet.")


def _words(entry: Mapping[str, object]) -> str:
    why = f" ({entry['why']})" if entry["why"] else ""
    return (
        f"{str(entry['at'])[:19].replace('T', ' ')}  {entry['key_id']}  {entry['field']}:"
        f" {entry['old'] or '-'} -> {entry['new'] or '-'}{why}"
    )


@sheets_app.command("status")
def status(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON for programs instead of lines.")
    ] = False,
) -> None:
    """What the running gateway says of its mirror: how far it is, and what is wrong.

    Where no gateway answers, what the ledger knows; the exit status is then 1, as when the mirror is
    down.
    """
    settings = _settings(context)
    mirror = _asked(settings)
    if as_json:
        print(orjson.dumps(mirror, option=orjson.OPT_INDENT_2).decode())
    else:
        for line in _lines(mirror):
            print(line)
    raise typer.Exit(0 if mirror.get("state") in ("ok", "behind") else 1)


def _asked(settings: Settings) -> Mapping[str, object]:
    if settings.port == 0:
        why = "with SLUICE_PORT=0 only a gateway's log tells where to ask it for more (/readyz)"
        return _remembered(settings, why)
    url = settings.url(settings.port) + "/readyz"
    try:
        answer = _fetched(url)
    except (URLError, OSError, ValueError) as error:
        why = (
            f"no gateway answers at {url} ({getattr(error, 'reason', error)}): without one nothing is"
            " mirrored; what waits is written once it runs (`sluice serve`)"
        )
        return _remembered(settings, why)
    mirror = answer.get("mirror")
    if not isinstance(mirror, dict):
        raise SettingsError(f"the gateway at {url} runs without a spreadsheet: SLUICE_SHEET_ID")
    return mirror


def _fetched(url: str) -> Mapping[str, object]:
    try:
        with urlopen(url, timeout=_PATIENCE) as response:
            answer = json.load(response)
    except HTTPError as error:  # not ready, which is an answer
        answer = json.load(error)
    if not isinstance(answer, dict):
        raise ValueError("it says something else than a gateway")
    return answer


def _remembered(settings: Settings, why: str) -> Mapping[str, object]:
    with _mirror(settings) as mirror:
        known = mirror.remembered()
    problems = known.get("problems")
    return {**known, "problems": [why, *(problems if isinstance(problems, list) else ())]}


def _lines(status: Mapping[str, object]) -> Iterator[str]:
    for name, figure in status.items():
        if name != "problems":
            yield f"{name.replace('_', ' '):<18}{'-' if figure is None else figure}"
    problems = status.get("problems")
    for problem in problems if isinstance(problems, list) else ():
        yield f"! {problem}"


def _settings(context: typer.Context) -> Settings:
    # How settings are read is known by who reads the environment.
    settings = cast(Callable[[], Settings], context.obj)()
    if not settings.sheet_id:
        raise SettingsError(
            "SLUICE_SHEET_ID: missing; expected the id or the address of a Google spreadsheet"
            " (docs/sheets.md has the way there)"
        )
    return settings


@contextmanager
def _mirror(settings: Settings) -> Iterator[Mirror]:
    ledger = open_ledger(settings)
    try:
        mirror = open_mirror(settings, ledger)
        assert mirror is not None  # `_settings` has seen to it
        yield mirror
    except BrokenPipeError:
        raise
    except OSError as error:
        # Mirrors and ledgers say what is wrong in one line.
        raise SettingsError(str(error)) from None
    finally:
        ledger.close()


def _tell(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)
