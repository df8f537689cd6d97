"""A Google Sheets server for tests: the v4 REST surface that the product uses, over real HTTP.

    with SheetsServer() as server:
        id = server.create("Keys")          # shared with server.credentials["client_email"]
        ...                                 # SLUICE_GOOGLE_API_BASE=server.url
        server.faults.next(Fault.RESET_AFTER, on="write")
        server.person(id).sort("User API Keys", "Tier")
        assert server.spreadsheet(id).tab("User API Keys").records()

Requests are checked against Google's discovery document (`discovery`), signed in with a real service
account (`accounts`), counted (`quota`), and applied all or nothing (`batch`, `values`). What is known
of Google's error texts is used word for word; where a text is our own, the code says so. Formulas are
kept as written and computed as far as `formulas` says. Not emulated, and refused with 501: what is in
the document but has no handler. Not there at all: revisions, comments, data sources, sharing by API.
"""

import json
import random
import re
import secrets
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.sheets_server import a1, batch, discovery, masks, reading, values
from tests.sheets_server.accounts import Account, GrantRefused
from tests.sheets_server.book import OWNER, Book, Json, Tab
from tests.sheets_server.faults import Fault, Faults
from tests.sheets_server.person import Person
from tests.sheets_server.quota import Quota
from tests.sheets_server.refusals import (
    PERMISSION,
    Refusal,
    invalid,
    not_found,
    over_quota,
    unauthenticated,
)

BODY_LIMIT = 10_485_760
Kind = Literal["read", "write", "token", "other"]

_HTML = """<!DOCTYPE html>
<html lang=en>
<meta charset=utf-8>
<title>Error {code} ({reason})!!1</title>
<p><b>{code}.</b> <ins>That’s an error.</ins>
<p>{text} <ins>That’s all we know.</ins>
"""


@dataclass
class Call:
    """A request as it came in and what became of it. Nothing is left out."""

    number: int
    at: float  # time.monotonic()
    kind: Kind
    method: str
    path: str  # as sent, with its query
    headers: Mapping[str, str]
    body: bytes
    api: str = ""  # spreadsheets.values.get
    status: int = 0  # 0: no answer
    answer: bytes = b""
    fault: Fault | None = None
    applied: bool = False

    @property
    def json(self) -> Any:
        """The body; a query's parameters are in `query`."""
        return json.loads(self.body) if self.body else None

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)


class SheetsServer:
    """Runs while the context is open. Safe to look at from any thread."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`clock` counts the quota's minutes, `now` is what formulas take for the time."""
        self.lock = threading.RLock()
        self.faults = Faults()
        self.quota = Quota(clock)
        self.requests: list[Call] = []
        self.broken: list[Exception] = []  # mistakes of this server itself
        self.stopped = threading.Event()
        self._now = now
        self._chance = random.Random(0)
        self._books: dict[str, Book] = {}
        self._http = _Server(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.account = Account(f"{self.url}/token")
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="sheets server"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()
        if self.broken and not any(error):
            raise ExceptionGroup("the Sheets server itself failed", self.broken)

    @property
    def credentials(self) -> dict[str, str]:
        """The service account's JSON; its token endpoint is this server."""
        return dict(self.account.credentials)

    @property
    def email(self) -> str:
        return self.account.email

    @property
    def reads(self) -> list[Call]:
        return [call for call in list(self.requests) if call.kind == "read"]

    @property
    def writes(self) -> list[Call]:
        return [call for call in list(self.requests) if call.kind == "write"]

    def create(self, title: str = "Untitled spreadsheet", *, shared: bool = True) -> str:
        """A new spreadsheet as a person makes it, one tab of 1000 × 26; its id."""
        id = secrets.token_urlsafe(33)
        properties = {
            "title": title,
            "locale": "en_US",
            "autoRecalc": "ON_CHANGE",
            "timeZone": "Etc/GMT",
        }
        book = Book(id, properties, self._now)
        grid = {"rowCount": 1000, "columnCount": 26}
        book.add(Tab(book, {"sheetId": 0, "title": "Sheet1", "gridProperties": grid}))
        if shared:
            book.shares[self.email] = "writer"
        with self.lock:
            self._books[id] = book
        return id

    def spreadsheet(self, id: str) -> Book:
        """To look at. Ask its tabs anew for each look; change it through `person`."""
        return self._books[id]

    def person(self, id: str) -> Person:
        return Person(self._books[id], self.lock)

    def share(self, id: str, role: Literal["writer", "reader"] | None) -> None:
        """What the service account may do; None: the share is revoked."""
        self.person(id).share(self.email, role)

    def reset(self) -> None:
        """As if new, but for the address, the account and tokens given out. Spreadsheets are gone."""
        with self.lock:
            self.faults.clear()
            self.quota.refill()
            self.requests.clear()
            self._books.clear()
            self.account.lifetime = 3600.0
            self.account.key_revoked = False

    # ------------------------------------------------------------ answering

    def handle(self, call: Call) -> None:
        """Fills in the answer; raises `_Cut` where there is none."""
        route = _route(call.method, urlsplit(call.path).path)
        call.api, call.kind = route.api, route.kind
        call.fault = self.faults.take(call.kind)
        try:
            if call.fault in (Fault.HANG, Fault.SLOW):
                self.stopped.wait(self.faults.seconds)
            if call.fault in (Fault.RESET, Fault.HANG):
                raise _Cut
            if call.fault is not None and not call.fault.after:
                self._fail(call, call.fault)
                return
            if call.kind == "token":
                form = {name: v[-1] for name, v in parse_qs(call.body.decode()).items()}
                call.answer = json.dumps(self.account.grant(form)).encode()
            else:
                answer = self._apply(call, route)
                call.answer = json.dumps(answer, indent=2, ensure_ascii=False).encode()
            call.status = 200
            call.applied = True
        except GrantRefused as refused:
            call.status, call.answer = 400, refused.body
        except Refusal as refusal:
            call.status, call.answer = refusal.code, refusal.body()
        except NoSuchPage:
            call.status, call.answer = (
                404,
                _page(404, "Not Found", "The requested URL was not found."),
            )
        if call.applied and call.fault is not None:
            self._fail_after(call, call.fault)

    def _fail(self, call: Call, fault: Fault) -> None:
        match fault:
            case Fault.HTML:
                call.status = 502
                call.answer = _page(
                    502, "Server Error", "The server encountered a temporary error."
                )
                return
            case Fault.QUOTA if call.kind == "token":
                refusal = Refusal(429, "Resource has been exhausted (e.g. check quota).")
            case Fault.QUOTA:
                refusal = over_quota("Read" if call.kind == "read" else "Write", 60)
            case Fault.INTERNAL:
                refusal = Refusal(500, "Internal error encountered.")
            case Fault.EXPIRED:
                refusal = unauthenticated()
            case _:
                refusal = Refusal(503, "The service is currently unavailable.")
        call.status, call.answer = refusal.code, refusal.body()

    def _fail_after(self, call: Call, fault: Fault) -> None:
        match fault:
            case Fault.HANG_AFTER:
                self.stopped.wait(self.faults.seconds)
                call.status, call.answer = 0, b""
                raise _Cut
            case Fault.RESET_AFTER:
                call.status, call.answer = 0, b""
                raise _Cut
            case Fault.INTERNAL_AFTER:
                self._fail(call, Fault.INTERNAL)
            case Fault.UNAVAILABLE_AFTER:
                self._fail(call, Fault.UNAVAILABLE)
            case Fault.HTML_AFTER:
                self._fail(call, Fault.HTML)

    def _apply(self, call: Call, route: "_Route") -> object:
        if route.api == "spreadsheets.create":
            raise Refusal(403, PERMISSION)
        if route.handler is None:
            raise NoSuchPage
        writing = call.kind == "write"
        self.account.check(call.headers.get("authorization"), call.api, writing=writing)
        if call.kind in ("read", "write"):
            self.quota.charge("write" if writing else "read")
        if len(call.body) > BODY_LIMIT:
            raise invalid(f"Request payload size exceeds the limit: {BODY_LIMIT} bytes.")
        query = discovery.query(call.api, call.query)
        fields = query.pop("fields", None)
        mask = None if fields is None else discovery.response_mask(call.api, str(fields))
        body = _json(call.body) if call.method != "GET" else {}
        if route.schema:
            body = discovery.body(route.schema, body, route.prefix)
        with self.lock:
            book = self._open(route.spreadsheet, writing=writing, stale=call.fault is Fault.STALE)
            request = _Request(book, route.rest, query, body, mask, self.email, self._chance)
            if not writing:
                answer = route.handler(request)
            else:
                request.book = book.draft()
                answer = route.handler(request)
                book.adopt(request.book)
        return answer if mask is None else masks.cut(answer, mask)

    def _open(self, id: str, *, writing: bool, stale: bool) -> Book:
        book = self._books.get(id)
        if book is None:
            raise not_found()
        role = book.shares.get(self.email)
        if role is None or (writing and role != "writer"):
            raise Refusal(403, PERMISSION)
        return book.past if stale and book.past is not None else book


class NoSuchPage(Exception):
    """Not an address of the API."""


class _Cut(Exception):
    """No answer: the connection is reset."""


def _page(code: int, reason: str, text: str) -> bytes:
    return _HTML.format(code=code, reason=reason, text=text).encode()


def _json(body: bytes) -> object:
    if not body:
        return {}
    try:
        return json.loads(body)
    except ValueError:
        raise invalid(
            "Invalid JSON payload received. Unexpected token.\n"
            + body[:60].decode("utf-8", "replace")
            + "\n^"
        ) from None


# ---------------------------------------------------------------- methods


@dataclass
class _Request:
    book: Book
    rest: str
    query: Mapping[str, Any]
    body: Any
    mask: masks.Tree | None
    account: str
    chance: random.Random


_Handler = Callable[[_Request], Json]


def _get(request: _Request) -> Json:
    return reading.spreadsheet(request.book, request.query, request.mask)


def _batch_update(request: _Request) -> Json:
    requests = request.body.get("requests", [])
    if not requests:
        raise invalid("Must specify at least one request.")
    replies = batch.apply(request.book, requests, request.account, request.chance)
    answer: Json = {"spreadsheetId": request.book.id, "replies": replies}
    if request.body.get("includeSpreadsheetInResponse"):
        answer["updatedSpreadsheet"] = reading.spreadsheet(request.book, {}, None)
    return answer


def _values_get(request: _Request) -> Json:
    return values.read(request.book, request.rest, request.query)


def _values_batch_get(request: _Request) -> Json:
    return {
        "spreadsheetId": request.book.id,
        "valueRanges": [
            values.read(request.book, text, request.query)
            for text in request.query.get("ranges", [])
        ],
    }


def _option(option: object) -> str:
    if option in (None, "INPUT_VALUE_OPTION_UNSPECIFIED"):
        raise invalid("'valueInputOption' is required but not specified")
    return str(option)


def _write(request: _Request, text: str, given: Json, option: object, named: str) -> Json:
    if "range" in given and a1.split(given["range"]) != a1.split(text):
        raise invalid(
            f"Requested writing within range [{text}], but the body says [{given['range']}]"
        )
    tab, area, _ = request.book.resolve(text)
    return values.write(
        request.book,
        (tab, area),
        given.get("values", []),
        option=_option(option),
        account=request.account,
        columns=given.get("majorDimension") == "COLUMNS",
        named=named,
    )


def _values_update(request: _Request) -> Json:
    option = request.query.get("valueInputOption")
    answer = _write(request, request.rest, request.body, option, "values")
    if request.query.get("includeValuesInResponse"):
        answer["updatedData"] = values.read(
            request.book,
            answer["updatedRange"],
            {
                "valueRenderOption": request.query.get(
                    "responseValueRenderOption", "FORMATTED_VALUE"
                )
            },
        )
    return answer


def _values_batch_update(request: _Request) -> Json:
    option = request.body.get("valueInputOption")
    data = request.body.get("data", [])
    responses = [
        _write(request, item.get("range", ""), item, option, f"data[{index}].values")
        for index, item in enumerate(data)
    ]
    return {
        "spreadsheetId": request.book.id,
        "totalUpdatedRows": sum(item["updatedRows"] for item in responses),
        "totalUpdatedColumns": sum(item["updatedColumns"] for item in responses),
        "totalUpdatedCells": sum(item["updatedCells"] for item in responses),
        "totalUpdatedSheets": len({a1.split(item["updatedRange"])[0] for item in responses}),
        "responses": responses,
    }


def _values_append(request: _Request) -> Json:
    _option(request.query.get("valueInputOption"))
    return values.append(request.book, request.rest, request.body, request.query, request.account)


def _values_clear(request: _Request) -> Json:
    cleared = values.clear(request.book, request.rest, request.account)
    return {"spreadsheetId": request.book.id, "clearedRange": cleared}


def _values_batch_clear(request: _Request) -> Json:
    ranges = [
        values.clear(request.book, text, request.account) for text in request.body.get("ranges", [])
    ]
    return {"spreadsheetId": request.book.id, "clearedRanges": ranges}


def _metadata_get(request: _Request) -> Json:
    for item in request.book.metadata:
        if str(item["metadataId"]) == request.rest:
            return item
    raise not_found()


def _metadata_search(request: _Request) -> Json:
    filters = request.body.get("dataFilters", [])
    found = []
    for item in request.book.metadata:
        fitting = [one for one in filters if batch.matches(request.book, item, one)]
        if fitting:
            found.append({"developerMetadata": item, "dataFilters": fitting})
    return {"matchedDeveloperMetadata": found} if found else {}


@dataclass
class _Route:
    api: str
    kind: Kind
    handler: _Handler | None
    schema: str = ""
    prefix: str = ""
    spreadsheet: str = ""
    rest: str = ""


_ROUTES: list[tuple[str, str, str, Kind, _Handler, str, str]] = [
    # method, what follows the spreadsheet's id, name, counted as, handler, schema, body's place
    ("GET", "", "spreadsheets.get", "read", _get, "", ""),
    (
        "POST",
        ":batchUpdate",
        "spreadsheets.batchUpdate",
        "write",
        _batch_update,
        "BatchUpdateSpreadsheetRequest",
        "",
    ),
    ("GET", "/values:batchGet", "spreadsheets.values.batchGet", "read", _values_batch_get, "", ""),
    (
        "POST",
        "/values:batchUpdate",
        "spreadsheets.values.batchUpdate",
        "write",
        _values_batch_update,
        "BatchUpdateValuesRequest",
        "",
    ),
    (
        "POST",
        "/values:batchClear",
        "spreadsheets.values.batchClear",
        "write",
        _values_batch_clear,
        "BatchClearValuesRequest",
        "",
    ),
    (
        "POST",
        "/values/*:append",
        "spreadsheets.values.append",
        "write",
        _values_append,
        "ValueRange",
        "data",
    ),
    (
        "POST",
        "/values/*:clear",
        "spreadsheets.values.clear",
        "write",
        _values_clear,
        "ClearValuesRequest",
        "",
    ),
    ("GET", "/values/*", "spreadsheets.values.get", "read", _values_get, "", ""),
    (
        "PUT",
        "/values/*",
        "spreadsheets.values.update",
        "write",
        _values_update,
        "ValueRange",
        "data",
    ),
    (
        "POST",
        "/developerMetadata:search",
        "spreadsheets.developerMetadata.search",
        "read",
        _metadata_search,
        "SearchDeveloperMetadataRequest",
        "",
    ),
    (
        "GET",
        "/developerMetadata/*",
        "spreadsheets.developerMetadata.get",
        "read",
        _metadata_get,
        "",
        "",
    ),
]


def _route(method: str, path: str) -> _Route:
    if method == "POST" and path == "/token":
        return _Route("token", "token", None)
    if method == "POST" and path == "/v4/spreadsheets":
        return _Route("spreadsheets.create", "write", None)
    match = re.fullmatch(r"/v4/spreadsheets/([^/:]+)(.*)", path, re.DOTALL)
    for verb, shape, api, kind, handler, schema, prefix in _ROUTES if match else ():
        pattern = re.escape(shape).replace(r"\*", "([^/]+)")
        rest = re.fullmatch(pattern, match[2]) if match and verb == method else None
        if match and rest is not None:
            text = unquote(rest[1]) if rest.groups() else ""
            return _Route(api, kind, handler, schema, prefix, unquote(match[1]), text)
    return _Route("", "other", None)


# ---------------------------------------------------------------- HTTP


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, sheets: SheetsServer) -> None:
        self.sheets = sheets
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Connections kept alive by clients end."""
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else fails the test that runs the server."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            self.sheets.broken.append(error)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def _answer(self) -> None:
        sheets = self.server.sheets
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with sheets.lock:
            call = Call(
                len(sheets.requests) + 1,
                time.monotonic(),
                "other",
                self.command,
                self.path,
                headers,
                body,
            )
            sheets.requests.append(call)
        try:
            sheets.handle(call)
        except _Cut:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        kind = "text/html" if call.answer.startswith(b"<!") else "application/json"
        self.send_response(call.status)
        self.send_header("Content-Type", f"{kind}; charset=UTF-8")
        self.send_header("Content-Length", str(len(call.answer)))
        self.end_headers()
        self.wfile.write(call.answer)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """`requests` is the log."""


__all__ = ["OWNER", "Call", "Fault", "SheetsServer"]
