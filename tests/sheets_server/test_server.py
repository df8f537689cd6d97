"""The Sheets server that the mirror is tested with, itself tested with the real clients."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import gspread
import pytest
import requests
from google.auth import jwt
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2.service_account import Credentials
from gspread.http_client import HTTPClient

from tests.sheets_server.accounts import GRANT, SPREADSHEETS
from tests.sheets_server.book import Book
from tests.sheets_server.faults import TRANSIENT, Fault
from tests.sheets_server.server import SheetsServer

Json = dict[str, Any]


@pytest.fixture(scope="module")
def running() -> Iterator[SheetsServer]:
    with SheetsServer(now=lambda: datetime(2026, 3, 15, 12, tzinfo=UTC)) as server:
        yield server


@pytest.fixture
def server(running: SheetsServer) -> SheetsServer:
    running.reset()
    return running


@pytest.fixture
def id(server: SheetsServer) -> str:
    return server.create("Test")


@pytest.fixture
def book(server: SheetsServer, id: str) -> Book:
    return server.spreadsheet(id)


@pytest.fixture(scope="module")
def credentials(running: SheetsServer) -> Credentials:
    return Credentials.from_service_account_info(running.credentials)


@pytest.fixture
def signed_in(credentials: Credentials) -> Callable[..., AuthorizedSession]:
    """Without a token so far."""
    return lambda scope=SPREADSHEETS: AuthorizedSession(credentials.with_scopes([scope]))


@pytest.fixture
def session(signed_in: Callable[..., AuthorizedSession]) -> Iterator[AuthorizedSession]:
    with signed_in() as session:
        yield session


@pytest.fixture
def sheet(server: SheetsServer, id: str, session: AuthorizedSession) -> gspread.Spreadsheet:
    """gspread, at this server's address."""

    class Here(HTTPClient):
        def request(self, method: str, endpoint: str, *args: Any, **named: Any) -> Any:
            here = endpoint.replace("https://sheets.googleapis.com", server.url)
            return super().request(method, here, *args, **named)

    client = gspread.Client(auth=session.credentials, session=session, http_client=Here)
    client.set_timeout(10)
    return gspread.Spreadsheet(client.http_client, {"id": id, "properties": {"title": "Test"}})


Send = Callable[..., requests.Response]


@pytest.fixture
def send(server: SheetsServer, id: str, session: AuthorizedSession) -> Send:
    """`send("GET", "/values/A1")` to the spreadsheet, whatever the answer."""

    def send(method: str, path: str, **named: Any) -> requests.Response:
        url = f"{server.url}/v4/spreadsheets/{id}{path}"
        return session.request(method, url, timeout=10, **named)

    return send


@pytest.fixture
def update(send: Send) -> Callable[..., requests.Response]:
    return lambda *batch: send("POST", ":batchUpdate", json={"requests": list(batch)})


def message(response: requests.Response) -> str:
    return str(response.json()["error"]["message"])


def text(value: str) -> Json:
    return {"userEnteredValue": {"stringValue": value}}


def number(value: float) -> Json:
    return {"userEnteredValue": {"numberValue": value}}


def append(sheet: int, *rows: list[Json], fields: str = "userEnteredValue") -> Json:
    return {
        "appendCells": {
            "sheetId": sheet,
            "rows": [{"values": row} for row in rows],
            "fields": fields,
        }
    }


def add_sheet(id: int, title: str, rows: int = 2, columns: int = 3, **more: Any) -> Json:
    grid = {"rowCount": rows, "columnCount": columns}
    return {
        "addSheet": {"properties": {"sheetId": id, "title": title, "gridProperties": grid, **more}}
    }


def name_range(id: str, name: str, sheet: int = 0) -> Json:
    area = {"sheetId": sheet, "startRowIndex": 0, "endRowIndex": 1}
    return {"addNamedRange": {"namedRange": {"namedRangeId": id, "name": name, "range": area}}}


# ---------------------------------------------------------------- signing in


def test_google_auth_signs_in_and_gspread_opens_the_spreadsheet(
    server: SheetsServer, sheet: gspread.Spreadsheet
) -> None:
    assert [tab.title for tab in sheet.worksheets()] == ["Sheet1"]
    assert [call.kind for call in server.requests] == ["token", "read", "read"]
    assert server.requests[1].headers["authorization"].startswith("Bearer ya29.")


def assertion(server: SheetsServer, credentials: Credentials, **changes: object) -> str:
    now = int(time.time())
    claims = {
        "iss": server.email,
        "scope": SPREADSHEETS,
        "aud": server.credentials["token_uri"],
        "iat": now,
        "exp": now + 3600,
    }
    return jwt.encode(credentials.signer, claims | changes).decode()


@pytest.mark.parametrize(
    ("changes", "error", "description"),
    [
        pytest.param(
            {"iss": "x@y.z"}, "invalid_grant", "Invalid grant: account not found", id="iss"
        ),
        pytest.param(
            {"aud": "https://x.example"},
            "invalid_grant",
            "Invalid JWT: Failed audience check.",
            id="aud",
        ),
        pytest.param({"scope": ""}, "invalid_scope", "Invalid OAuth scope", id="no scope"),
        pytest.param({"scope": "sheets"}, "invalid_scope", "Invalid OAuth scope", id="bad scope"),
        pytest.param({"iat": 1, "exp": 3600}, "invalid_grant", "short-lived token", id="old"),
        pytest.param({"iat": 0}, "invalid_grant", "short-lived token", id="long-lived"),
    ],
)
def test_every_claim_of_the_assertion_is_checked(
    server: SheetsServer,
    credentials: Credentials,
    changes: Mapping[str, object],
    error: str,
    description: str,
) -> None:
    form = {"grant_type": GRANT, "assertion": assertion(server, credentials, **changes)}
    answer = requests.post(server.credentials["token_uri"], data=form, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert description in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": GRANT, "assertion": "a.b.c"}, "invalid_grant"),
    ],
)
def test_other_grants_are_refused(server: SheetsServer, form: dict[str, str], error: str) -> None:
    answer = requests.post(f"{server.url}/token", data=form, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_signature_over_something_else_is_refused(
    server: SheetsServer, credentials: Credentials
) -> None:
    header, _, signature = assertion(server, credentials).split(".")
    _, claims, _ = assertion(
        server, credentials, scope=SPREADSHEETS + " https://www.googleapis.com/auth/drive"
    ).split(".")
    form = {"grant_type": GRANT, "assertion": f"{header}.{claims}.{signature}"}
    answer = requests.post(f"{server.url}/token", data=form, timeout=10)
    assert answer.json()["error_description"] == "Invalid JWT Signature."


def test_a_revoked_key_is_told_to_google_auth(
    server: SheetsServer, session: AuthorizedSession
) -> None:
    server.account.key_revoked = True
    with pytest.raises(RefreshError, match="Invalid JWT Signature"):
        session.credentials.refresh(Request())


def test_without_credentials_nothing_is_answered(server: SheetsServer, id: str) -> None:
    answer = requests.get(f"{server.url}/v4/spreadsheets/{id}", timeout=10)
    assert answer.status_code == 403
    assert "unregistered callers" in message(answer)


def test_an_unknown_token_is_refused(server: SheetsServer, id: str) -> None:
    answer = requests.get(
        f"{server.url}/v4/spreadsheets/{id}", headers={"Authorization": "Bearer x"}, timeout=10
    )
    assert answer.status_code == 401
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"
    assert message(answer).startswith("Request had invalid authentication credentials.")


def test_an_expired_token_is_renewed_by_google_auth(server: SheetsServer, send: Send) -> None:
    assert send("GET", "").status_code == 200
    server.account.expire()
    assert send("GET", "").status_code == 200
    assert [(call.kind, call.status) for call in server.requests] == [
        ("token", 200),
        ("read", 200),
        ("read", 401),
        ("token", 200),
        ("read", 200),
    ]


def test_the_life_of_tokens_can_be_shortened(server: SheetsServer, send: Send) -> None:
    server.account.lifetime = 0
    assert send("GET", "").status_code == 401


def test_a_scope_for_reading_does_not_write(
    server: SheetsServer, id: str, signed_in: Callable[..., AuthorizedSession]
) -> None:
    with signed_in(f"{SPREADSHEETS}.readonly") as session:
        url = f"{server.url}/v4/spreadsheets/{id}"
        assert session.get(url).status_code == 200
        answer = session.post(url + ":batchUpdate", json={"requests": [add_sheet(5, "x")]})
    assert answer.status_code == 403
    assert message(answer) == "Request had insufficient authentication scopes."


@pytest.mark.parametrize(("role", "reads"), [("reader", 200), (None, 403)])
def test_who_is_not_allowed_gets_a_403(
    server: SheetsServer, id: str, send: Send, update: Send, role: Any, reads: int
) -> None:
    server.share(id, role)
    assert send("GET", "").status_code == reads
    answer = update(add_sheet(5, "x"))
    assert (answer.status_code, message(answer)) == (403, "The caller does not have permission")


def test_a_spreadsheet_that_is_not_there_is_a_404(server: SheetsServer, session: Any) -> None:
    answer = session.get(f"{server.url}/v4/spreadsheets/nothing")
    assert (answer.status_code, message(answer)) == (404, "Requested entity was not found.")


def test_a_service_account_creates_no_files(server: SheetsServer, session: Any) -> None:
    answer = session.post(f"{server.url}/v4/spreadsheets", json={"properties": {"title": "x"}})
    assert (answer.status_code, message(answer)) == (403, "The caller does not have permission")


# ---------------------------------------------------------------- checked by the discovery document


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        pytest.param(
            {"frobnicate": {}},
            "requests[0]",
            "Invalid JSON payload received. Unknown name \"frobnicate\" at 'requests[0]': Cannot find field.",
            id="unknown request",
        ),
        pytest.param(
            {"updateSheetProperties": {"properties": {"headerValues": []}, "fields": "title"}},
            "requests[0].update_sheet_properties.properties",
            "Unknown name \"headerValues\" at 'requests[0].update_sheet_properties.properties': "
            "Cannot find field.",
            id="unknown field",
        ),
        pytest.param(
            {"appendCells": {"sheetId": "x"}},
            "requests[0].append_cells.sheet_id",
            "Invalid value at 'requests[0].append_cells.sheet_id' (TYPE_INT32), \"x\"",
            id="text for a number",
        ),
        pytest.param(
            {"appendCells": {"rows": "x"}},
            "requests[0].append_cells.rows",
            "Invalid value at 'requests[0].append_cells.rows' "
            '(type.googleapis.com/google.apps.sheets.v4.RowData), "x"',
            id="text for a list",
        ),
        pytest.param(
            {"insertDimension": {"range": {"dimension": "LINES"}}},
            "requests[0].insert_dimension.range.dimension",
            "Invalid value at 'requests[0].insert_dimension.range.dimension' "
            '(type.googleapis.com/google.apps.sheets.v4.Dimension), "LINES"',
            id="unknown choice",
        ),
        pytest.param(
            {"repeatCell": {"cell": [], "fields": "*"}},
            "requests[0].repeat_cell",
            "Unknown name \"cell\" at 'requests[0].repeat_cell': Proto field is not repeating, cannot "
            "start list.",
            id="list for one",
        ),
        pytest.param(
            {"addSheet": {"properties": {"hidden": "yes"}}},
            "requests[0].add_sheet.properties.hidden",
            "Invalid value at 'requests[0].add_sheet.properties.hidden' (TYPE_BOOL), \"yes\"",
            id="text for a boolean",
        ),
        pytest.param(
            {"addSheet": {"properties": {"title": 5}}},
            "requests[0].add_sheet.properties.title",
            "Invalid value at 'requests[0].add_sheet.properties.title' (TYPE_STRING), 5",
            id="number for a text",
        ),
        pytest.param(
            {"deleteSheet": {"sheetId": 2**31}},
            "requests[0].delete_sheet.sheet_id",
            f"Invalid value at 'requests[0].delete_sheet.sheet_id' (TYPE_INT32), {2**31}",
            id="number too large",
        ),
        pytest.param(
            append(0, [{"userEnteredValue": {"numberValue": 1, "stringValue": "1"}}]),
            "requests[0].append_cells.rows[0].values[0].user_entered_value",
            "Invalid value at 'requests[0].append_cells.rows[0].values[0].user_entered_value' (oneof), "
            "oneof field 'value' is already set. Cannot set 'stringValue'",
            id="two of a union",
        ),
    ],
)
def test_a_body_that_is_not_in_the_document_is_refused(
    update: Send, request_: Json, field: str, words: str
) -> None:
    answer = update(request_)
    assert answer.status_code == 400
    assert words in message(answer)
    (detail,) = answer.json()["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [violation["field"] for violation in detail["fieldViolations"]] == [field]


def test_numbers_as_text_and_names_with_underscores_are_read(update: Send, book: Book) -> None:
    answer = update(
        {"add_sheet": {"properties": {"sheetId": "7", "title": "x", "tab_color": None}}}
    )
    assert answer.status_code == 200
    assert book.tab(7).title == "x"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("?colour=red", 'Unknown name "colour": Cannot bind query parameter.'),
        ("/values/A1?valueRenderOption=RAW", "Invalid value at 'value_render_option'"),
        (
            "/values/A1?majorDimension=x",
            '(type.googleapis.com/google.apps.sheets.v4.Dimension), "x"',
        ),
        ("?includeGridData=perhaps", "Invalid value at 'include_grid_data' (TYPE_BOOL)"),
    ],
)
def test_a_query_that_is_not_in_the_document_is_refused(send: Send, path: str, words: str) -> None:
    answer = send("GET", path)
    assert answer.status_code == 400
    assert words in message(answer)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            "x",
            "Invalid value at 'data.values' (type.googleapis.com/google.protobuf.ListValue), \"x\"",
        ),
        (
            ["x"],
            "Invalid value at 'data.values[0]' (type.googleapis.com/google.protobuf.ListValue), \"x\"",
        ),
        ([["a", ["b"]]], 'Invalid values[0][1]: list_value ["b"]'),
    ],
)
def test_values_have_to_be_rows_of_scalars(send: Send, values: object, words: str) -> None:
    answer = send("PUT", "/values/A1?valueInputOption=RAW", json={"values": values})
    assert (answer.status_code, message(answer)) == (400, words)


def test_what_is_no_json_is_refused(send: Send) -> None:
    answer = send("POST", ":batchUpdate", data=b'{"requests": [')
    assert answer.status_code == 400
    assert message(answer).startswith("Invalid JSON payload received.")


def test_a_body_over_ten_megabytes_is_refused(send: Send) -> None:
    answer = send("POST", ":batchUpdate", data=b" " * (10_485_760 + 1))
    assert answer.status_code == 400
    assert message(answer) == "Request payload size exceeds the limit: 10485760 bytes."


def test_an_address_that_is_none_is_a_page(send: Send) -> None:
    answer = send("GET", "/nothing/here")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_what_is_not_emulated_says_so(update: Send) -> None:
    answer = update({"trimWhitespace": {"range": {"sheetId": 0}}})
    assert answer.status_code == 501
    assert "not emulated" in message(answer)


# ---------------------------------------------------------------- reading the metadata


def test_a_mask_cuts_the_answer_to_what_it_names(send: Send, update: Send) -> None:
    update(add_sheet(7, "a b", hidden=True), name_range("1", "flush_1"))
    mask = (
        "namedRanges.name,sheets(properties(sheetId,title,hidden,gridProperties/rowCount),charts)"
    )
    assert send("GET", f"?fields={mask}").json() == {
        "namedRanges": [{"name": "flush_1"}],
        "sheets": [
            {"properties": {"sheetId": 0, "title": "Sheet1", "gridProperties": {"rowCount": 1000}}},
            {
                "properties": {
                    "sheetId": 7,
                    "title": "a b",
                    "hidden": True,
                    "gridProperties": {"rowCount": 2},
                }
            },
        ],
    }


@pytest.mark.parametrize("mask", ["sheets.propertis", "namedRanges(name,colour)", "everything"])
def test_a_mask_of_unknown_fields_is_refused(send: Send, mask: str) -> None:
    answer = send("GET", f"?fields={mask}")
    assert (answer.status_code, message(answer)) == (400, "Request contains an invalid argument.")
    (violation,) = answer.json()["error"]["details"][0]["fieldViolations"]
    assert "Cannot find matching fields for path" in violation["description"]


def test_cells_come_with_the_metadata_when_asked(send: Send, update: Send) -> None:
    update(append(0, [text("a"), {"userEnteredValue": {"formulaValue": "=1+1"}}]))
    cells = "sheets.data.rowData.values(userEnteredValue,effectiveValue,formattedValue)"
    answer = send("GET", f"?ranges=Sheet1!A1:B1&fields={cells}").json()
    assert answer["sheets"][0]["data"][0]["rowData"][0]["values"] == [
        {
            "userEnteredValue": {"stringValue": "a"},
            "effectiveValue": {"stringValue": "a"},
            "formattedValue": "a",
        },
        {
            "userEnteredValue": {"formulaValue": "=1+1"},
            "effectiveValue": {"numberValue": 2},
            "formattedValue": "2",
        },
    ]
    assert "data" not in send("GET", "").json()["sheets"][0]
    assert "data" in send("GET", "?includeGridData=true").json()["sheets"][0]


# ---------------------------------------------------------------- batchUpdate


def chart(id: int | None = None, sheet: int = 0) -> Json:
    def column(index: int) -> Json:
        source = {
            "sheetId": sheet,
            "startRowIndex": 0,
            "endRowIndex": 5,
            "startColumnIndex": index,
            "endColumnIndex": index + 1,
        }
        return {"sourceRange": {"sources": [source]}}

    made: Json = {
        "spec": {
            "title": "Cost",
            "basicChart": {
                "chartType": "LINE",
                "domains": [{"domain": column(0)}],
                "series": [{"series": column(1)}],
            },
        },
        "position": {"overlayPosition": {"anchorCell": {"sheetId": 0, "rowIndex": 9}}},
    }
    return {"addChart": {"chart": made if id is None else {**made, "chartId": id}}}


def whole(sheet: int = 0, **ends: int) -> Json:
    return {"sheetId": sheet, **ends}


REFUSED = {
    "tab's name taken": (
        [{"addSheet": {"properties": {"title": "sheet1"}}}],
        'Invalid requests[0].addSheet: A sheet with the name "sheet1" already exists. Please enter another '
        "name.",
    ),
    "tab's id taken": (
        [add_sheet(7, "a"), add_sheet(7, "b")],
        "Invalid requests[1].addSheet: A sheet with ID 7 already exists.",
    ),
    "tab's name too long": (
        [add_sheet(7, "x" * 101)],
        "Invalid requests[0].addSheet: The sheet name cannot be greater than 100 characters.",
    ),
    "too many cells": (
        [add_sheet(7, "x", rows=1_000_000, columns=10)],
        "Invalid requests[0].addSheet: This action would increase the number of cells in the workbook above "
        "the limit of 10000000 cells.",
    ),
    "all rows frozen": (
        [
            {
                "addSheet": {
                    "properties": {
                        "gridProperties": {"rowCount": 1, "columnCount": 1, "frozenRowCount": 1}
                    }
                }
            }
        ],
        "Invalid requests[0].addSheet: You can't freeze all visible rows on the sheet.",
    ),
    "append without a tab": (
        [append(9, [text("a")])],
        "Invalid requests[0].appendCells: No grid with id: 9",
    ),
    "append beyond the columns": (
        [append(0, [{}] * 26 + [text("a")])],
        "Invalid requests[0].appendCells: Attempting to write column: 26, beyond the last requested column "
        "of: 25",
    ),
    "append without fields": (
        [{"appendCells": {"sheetId": 0, "rows": []}}],
        "Invalid requests[0].appendCells: At least one field must be listed in 'fields'. (Use '*' to "
        "indicate all fields.)",
    ),
    "a mask of unknown fields": (
        [append(0, [text("a")], fields="value")],
        "Invalid requests[0].appendCells: Invalid field: value",
    ),
    "text too long": (
        [append(0, [text("x" * 50_001)])],
        "Invalid requests[0].appendCells: Your input contains more than the maximum of 50000 characters in a "
        "single cell.",
    ),
    "write beyond the rows": (
        [
            {
                "updateCells": {
                    "start": {"sheetId": 0, "rowIndex": 1000},
                    "rows": [{"values": [text("a")]}],
                    "fields": "*",
                }
            }
        ],
        "Invalid requests[0].updateCells: Attempting to write row: 1000, beyond the last requested row of: "
        "999",
    ),
    "range beyond the grid": (
        [{"repeatCell": {"range": whole(startRowIndex=0, endRowIndex=1001), "fields": "*"}}],
        "Invalid requests[0].repeatCell: Range (Sheet1!A1:Z1001) exceeds grid limits. Max rows: 1000, max "
        "columns: 26",
    ),
    "no such tab": (
        [{"deleteSheet": {"sheetId": 9}}],
        "Invalid requests[0].deleteSheet: No sheet with id: 9",
    ),
    "the last tab": (
        [{"deleteSheet": {"sheetId": 0}}],
        "Invalid requests[0].deleteSheet: You can't remove all the sheets in a document.",
    ),
    "all tabs hidden": (
        [{"updateSheetProperties": {"properties": {"hidden": True}, "fields": "hidden"}}],
        "Invalid requests[0].updateSheetProperties: You can't hide all the sheets in a document.",
    ),
    "row that is not there": (
        [
            {
                "deleteDimension": {
                    "range": {
                        "sheetId": 0,
                        "dimension": "ROWS",
                        "startIndex": 1000,
                        "endIndex": 1001,
                    }
                }
            }
        ],
        "Invalid requests[0].deleteDimension: Cannot delete a row that doesn't exist. Tried to delete row "
        "index 1000 but there are only 1000 rows.",
    ),
    "all rows": (
        [{"deleteDimension": {"range": {"sheetId": 0, "dimension": "ROWS"}}}],
        "Invalid requests[0].deleteDimension: You can't delete all the rows on the sheet.",
    ),
    "named range's id taken": (
        [name_range("1", "a"), name_range("1", "b")],
        "Invalid requests[1].addNamedRange: A named range with ID 1 already exists.",
    ),
    "named range's name taken": (
        [name_range("1", "flush"), name_range("2", "Flush")],
        "Invalid requests[1].addNamedRange: A named range with the name Flush already exists.",
    ),
    "name that is a cell": (
        [name_range("1", "AB12")],
        "Invalid requests[0].addNamedRange: The name of the named range is not valid: AB12",
    ),
    "no such named range": (
        [{"deleteNamedRange": {"namedRangeId": "5"}}],
        "Invalid requests[0].deleteNamedRange: No NamedRange with id: 5",
    ),
    "a warning with editors": (
        [
            {
                "addProtectedRange": {
                    "protectedRange": {
                        "range": whole(),
                        "warningOnly": True,
                        "editors": {"users": []},
                    }
                }
            }
        ],
        "Invalid requests[0].addProtectedRange: ProtectedRange is warningOnly. Editors cannot be set on it.",
    ),
    "chart's id taken": (
        [chart(5), chart(5)],
        "Invalid requests[1].addChart: A chart with ID 5 already exists.",
    ),
    "chart over a missing tab": (
        [chart(5, sheet=9)],
        "Invalid requests[0].addChart: No grid with id: 9",
    ),
    "rule of neither kind": (
        [{"addConditionalFormatRule": {"rule": {"ranges": [whole()]}}}],
        "Invalid requests[0].addConditionalFormatRule: One of booleanRule or gradientRule must be set.",
    ),
    "rule with a broken formula": (
        [
            {
                "addConditionalFormatRule": {
                    "rule": {
                        "ranges": [whole()],
                        "booleanRule": {
                            "condition": {
                                "type": "CUSTOM_FORMULA",
                                "values": [{"userEnteredValue": "=AND(A1"}],
                            }
                        },
                    }
                }
            }
        ],
        "Invalid requests[0].addConditionalFormatRule: Invalid ConditionValue.userEnteredValue: =AND(A1",
    ),
    "no such rule": (
        [{"deleteConditionalFormatRule": {"sheetId": 0, "index": 0}}],
        "Invalid requests[0].deleteConditionalFormatRule: No conditional format on sheet: 0 at index: 0",
    ),
    "banding over banding": (
        [{"addBanding": {"bandedRange": {"range": whole()}}}] * 2,
        "Invalid requests[1].addBanding: You cannot add alternating background colors to a range that "
        "already has alternating background colors.",
    ),
    "no requests": ([], "Must specify at least one request."),
}


@pytest.mark.parametrize(("batch", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_is_in_googles_words_and_leaves_everything_as_it_was(
    update: Send, book: Book, batch: list[Json], words: str
) -> None:
    before = book.text()
    answer = update(*batch)
    assert (answer.status_code, message(answer)) == (400, words)
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert book.text() == before


def test_a_batch_is_applied_whole(update: Send, book: Book) -> None:
    answer = update(
        name_range("1", "flush_1"),
        add_sheet(7, "test_at_example_dot_com"),
        append(7, [text("Timestamp"), text("Email")]),
        append(7, [number(46000.5), text("a@b.c")], [number(46001), text("d@e.f")]),
    )
    assert answer.status_code == 200
    assert [list(reply) for reply in answer.json()["replies"]] == [
        ["addNamedRange"],
        ["addSheet"],
        [],
        [],
    ]
    tab = book.tab("test_at_example_dot_com")
    assert tab.records() == [
        {"Timestamp": 46000.5, "Email": "a@b.c"},
        {"Timestamp": 46001, "Email": "d@e.f"},
    ]
    assert (tab.row_count, tab.column_count) == (3, 3)
    assert book.cells_used == 26_000 + 9


def test_a_batch_with_one_bad_request_changes_nothing(update: Send, book: Book) -> None:
    before = book.text()
    answer = update(name_range("1", "flush_1"), append(0, [text("a")]), add_sheet(0, "b"))
    assert answer.status_code == 400
    assert book.text() == before
    assert book.tab("Sheet1").values() == []


def test_a_flush_sent_again_is_refused_whole_by_its_marker(update: Send, book: Book) -> None:
    first = (name_range("1", "flush_1"), append(0, [text("row 1")]))
    second = (
        name_range("2", "flush_2"),
        {"deleteNamedRange": {"namedRangeId": "1"}},
        append(0, [text("row 2")]),
    )
    assert [update(*batch).status_code for batch in (first, first, second, second)] == [
        200,
        400,
        200,
        400,
    ]
    assert book.tab("Sheet1").values() == [["row 1"], ["row 2"]]
    assert [item["name"] for item in book.named_ranges] == ["flush_2"]


def test_append_goes_after_the_last_row_with_a_value_whatever_lies_above(
    update: Send, book: Book
) -> None:
    bold = {"userEnteredFormat": {"textFormat": {"bold": True}}}
    update(
        add_sheet(7, "x", rows=10, columns=2),
        append(7, [text("a")]),
        {
            "updateCells": {
                "start": {"sheetId": 7, "rowIndex": 4},
                "rows": [{"values": [text("e")]}],
                "fields": "userEnteredValue",
            }
        },
        {"repeatCell": {"range": whole(7), "cell": bold, "fields": "userEnteredFormat.textFormat"}},
        append(7, [{}, text("f")]),
    )
    tab = book.tab(7)
    assert tab.values() == [["a"], [], [], [], ["e"], ["", "f"]]
    assert tab.cell("B9") == bold
    assert tab.cell("B6") == {**bold, **text("f")}


def test_a_check_box_below_the_rows_is_data(update: Send, book: Book) -> None:
    box = {"condition": {"type": "BOOLEAN"}}
    update(
        {
            "setDataValidation": {
                "range": whole(startRowIndex=0, endRowIndex=5, endColumnIndex=1),
                "rule": box,
            }
        },
        append(0, [text("x")]),
    )
    assert book.tab("Sheet1").values() == [[False]] * 5 + [["x"]]


def test_formats_charts_rules_and_protection_are_kept_and_told(
    update: Send, send: Send, book: Book
) -> None:
    red = {"backgroundColor": {"red": 1}}
    rule = {
        "ranges": [whole(startColumnIndex=8, endColumnIndex=9)],
        "booleanRule": {
            "condition": {"type": "CUSTOM_FORMULA", "values": [{"userEnteredValue": "=$A1=TRUE"}]},
            "format": red,
        },
    }
    answer = update(
        {"addProtectedRange": {"protectedRange": {"protectedRangeId": 3, "range": whole()}}},
        {"addConditionalFormatRule": {"rule": rule, "index": 0}},
        {"addFilterView": {"filter": {"filterViewId": 4, "title": "Mine", "range": whole()}}},
        {"addBanding": {"bandedRange": {"bandedRangeId": 6, "range": whole()}}},
        {"setBasicFilter": {"filter": {"range": whole()}}},
        chart(5),
        {
            "createDeveloperMetadata": {
                "developerMetadata": {
                    "metadataId": 8,
                    "metadataKey": "gw_user",
                    "metadataValue": "a@b.c",
                    "location": {"sheetId": 0},
                    "visibility": "DOCUMENT",
                }
            }
        },
        {
            "updateDimensionProperties": {
                "range": {"sheetId": 0, "dimension": "COLUMNS", "startIndex": 2, "endIndex": 3},
                "properties": {"hiddenByUser": True},
                "fields": "hiddenByUser",
            }
        },
        {
            "updateSpreadsheetProperties": {
                "properties": {"timeZone": "Etc/UTC", "locale": "en_US"},
                "fields": "timeZone,locale",
            }
        },
        {
            "autoResizeDimensions": {
                "dimensions": {"sheetId": 0, "dimension": "COLUMNS", "startIndex": 0, "endIndex": 3}
            }
        },
        {"appendDimension": {"sheetId": 0, "dimension": "COLUMNS", "length": 2}},
    )
    assert answer.status_code == 200
    (told,) = send("GET", "").json()["sheets"]
    assert told["protectedRanges"][0]["editors"]["users"] == [
        "sluice@tests-1.iam.gserviceaccount.com",
        "owner@example.com",
    ]
    assert told["conditionalFormats"] == [rule]
    assert told["filterViews"][0]["filterViewId"] == 4
    assert told["bandedRanges"][0]["bandedRangeId"] == 6
    assert told["basicFilter"] == {"range": whole()}
    assert told["charts"][0]["chartId"] == 5
    assert told["developerMetadata"] == book.tab("Sheet1").metadata
    assert book.tab("Sheet1").hidden_columns == [2]
    assert book.tab("Sheet1").column_count == 28
    assert book.properties["timeZone"] == "Etc/UTC"

    spec = {**told["charts"][0]["spec"], "title": "Costs"}
    lookup = {"dataFilter": {"developerMetadataLookup": {"metadataKey": "gw_user"}}}
    answer = update(
        {"updateChartSpec": {"chartId": 5, "spec": spec}},
        {"deleteConditionalFormatRule": {"sheetId": 0, "index": 0}},
        {"deleteDeveloperMetadata": lookup},
        {
            "updateProtectedRange": {
                "protectedRange": {"protectedRangeId": 3, "warningOnly": True},
                "fields": "warningOnly",
            }
        },
    )
    assert answer.status_code == 200
    assert book.tab("Sheet1").charts[0]["spec"]["title"] == "Costs"
    assert book.tab("Sheet1").protected_ranges[0]["warningOnly"]
    assert not book.tab("Sheet1").conditional_formats
    assert not book.metadata
    assert update({"deleteEmbeddedObject": {"objectId": 5}}).status_code == 200
    assert not book.tab("Sheet1").charts


def test_metadata_is_found_by_search(update: Send, send: Send) -> None:
    item = {
        "metadataKey": "k",
        "metadataValue": "v",
        "location": {"spreadsheet": True},
        "visibility": "DOCUMENT",
    }
    assert update({"createDeveloperMetadata": {"developerMetadata": item}}).status_code == 200
    filters = {"dataFilters": [{"developerMetadataLookup": {"metadataKey": "k"}}]}
    found = send("POST", "/developerMetadata:search", json=filters).json()[
        "matchedDeveloperMetadata"
    ]
    assert found[0]["developerMetadata"]["metadataValue"] == "v"
    assert (
        send("GET", f"/developerMetadata/{found[0]['developerMetadata']['metadataId']}").status_code
        == 200
    )


def test_inserted_and_deleted_rows_take_names_charts_and_formulas_along(
    update: Send, book: Book
) -> None:
    update(
        append(0, [text("a")], [number(1)], [number(2)]),
        append(0, [{"userEnteredValue": {"formulaValue": "=SUM(A2:A3)+'Sheet1'!$A$2"}}]),
        {
            "addNamedRange": {
                "namedRange": {"name": "two", "range": whole(startRowIndex=1, endRowIndex=3)}
            }
        },
        chart(5),
    )
    rows = {"sheetId": 0, "dimension": "ROWS", "startIndex": 1, "endIndex": 3}
    update({"insertDimension": {"range": rows}})
    tab = book.tab("Sheet1")
    assert tab.cell("A6")["userEnteredValue"] == {"formulaValue": "=SUM(A4:A5)+Sheet1!$A$4"}
    assert tab.value("A6") == 4
    assert book.named_ranges[0]["range"] == whole(startRowIndex=3, endRowIndex=5)
    assert tab.charts[0]["position"]["overlayPosition"]["anchorCell"]["rowIndex"] == 11
    rows = {"sheetId": 0, "dimension": "ROWS", "startIndex": 3, "endIndex": 4}
    update({"deleteDimension": {"range": rows}})
    tab = book.tab("Sheet1")
    assert tab.cell("A5")["userEnteredValue"] == {"formulaValue": "=SUM(A4:A4)+#REF!"}
    assert tab.value("A5") == "#REF!"


def test_a_marker_whose_tab_is_deleted_is_out_of_sight_but_still_in_the_way(
    update: Send, send: Send
) -> None:
    update(add_sheet(7, "x"), name_range("1", "flush_1", sheet=7))
    update({"deleteSheet": {"sheetId": 7}})
    assert send("GET", "?fields=namedRanges").json() == {}
    assert update(name_range("1", "flush_1")).status_code == 400


def test_protection_by_others_stops_the_service_account(
    server: SheetsServer, id: str, update: Send, send: Send, book: Book
) -> None:
    server.person(id).protect("Sheet1")
    before = book.text()
    for request in (
        append(0, [text("a")]),
        {"repeatCell": {"range": whole(endRowIndex=1), "cell": text("x"), "fields": "*"}},
        {"deleteDimension": {"range": {"sheetId": 0, "dimension": "ROWS", "endIndex": 1}}},
    ):
        answer = update(request)
        assert answer.status_code == 400
        assert "You are trying to edit a protected cell or object." in message(answer)
    answer = send("PUT", "/values/A1?valueInputOption=RAW", json={"values": [["x"]]})
    assert "You are trying to edit a protected cell or object." in message(answer)
    assert book.text() == before
    server.person(id).unprotect("Sheet1")
    assert update(append(0, [text("a")])).status_code == 200


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("title", "range_", "found"),
    [
        ("plain", "plain!A1", "plain!A1"),
        ("plain", "'plain'!A1:B", "plain!A1:B2"),
        ("User API Keys", "'User API Keys'!A1", "'User API Keys'!A1"),
        ("it's", "'it''s'!A1", "'it''s'!A1"),
        ("D3", "'D3'!B2", "'D3'!B2"),
        ("tab01", "'tab01'", "'tab01'!A1:C2"),
        ("2024", "2024", "'2024'!A1:C2"),
        ("a!b", "'a!b'!C:C", "'a!b'!C1:C2"),
        ("test_at_example_dot_com", "test_at_example_dot_com!2:2", "test_at_example_dot_com!A2:C2"),
    ],
)
def test_ranges_are_read_and_spelled_with_googles_quotes(
    update: Send, sheet: gspread.Spreadsheet, title: str, range_: str, found: str
) -> None:
    update(add_sheet(7, title))
    assert sheet.values_get(range_)["range"] == found


def test_an_unquoted_name_that_looks_like_a_cell_is_a_cell(update: Send, send: Send) -> None:
    update(add_sheet(7, "D3"))
    assert send("GET", "/values/D3").json()["range"] == "Sheet1!D3"


@pytest.mark.parametrize(
    ("range_", "words"),
    [
        ("Nope!A1", "Unable to parse range: Nope!A1"),
        ("Sheet1!AA1", "Range (Sheet1!AA1) exceeds grid limits. Max rows: 1000, max columns: 26"),
        (
            "Sheet1!A1001",
            "Range (Sheet1!A1001) exceeds grid limits. Max rows: 1000, max columns: 26",
        ),
        ("?", "Unable to parse range: ?"),
    ],
)
def test_ranges_that_are_not_there_are_refused(
    sheet: gspread.Spreadsheet, range_: str, words: str
) -> None:
    with pytest.raises(gspread.exceptions.APIError) as raised:
        sheet.values_get(range_)
    assert raised.value.error["message"] == words


def test_raw_is_kept_and_typed_text_is_read_as_if_typed(send: Send, book: Book) -> None:
    row = [
        "007",
        "12e45",
        "TRUE",
        "=1+1",
        "+1-555-0100",
        "2026-01-01",
        "2026-01-01T10:00:00Z",
        1.5,
        True,
        "",
    ]
    for line, option in enumerate(("RAW", "USER_ENTERED"), 1):
        path = f"/values/A{line}:J{line}?valueInputOption={option}"
        assert send("PUT", path, json={"values": [row]}).status_code == 200
    raw, typed = book.tab("Sheet1").values()
    assert raw == row[:-1]
    assert typed == [7, 12e45, True, 2, -654, 46023, "2026-01-01T10:00:00Z", 1.5, True]


def test_values_are_rendered_in_three_ways(update: Send, sheet: gspread.Spreadsheet) -> None:
    def formatted(value: float, kind: str, pattern: str) -> Json:
        return {
            **number(value),
            "userEnteredFormat": {"numberFormat": {"type": kind, "pattern": pattern}},
        }

    update(
        append(
            0,
            [
                formatted(46000.75, "DATE_TIME", "yyyy-mm-dd hh:mm:ss"),
                formatted(0.0000123, "NUMBER", "0.000000"),
                formatted(1234567.891, "CURRENCY", '"$"#,##0.00'),
                formatted(0.125, "PERCENT", "0.0%"),
                number(1 / 3),
                {"userEnteredValue": {"boolValue": False}},
                {"userEnteredValue": {"formulaValue": '=IF(F1,"yes","no")'}},
            ],
            fields="userEnteredValue,userEnteredFormat.numberFormat",
        )
    )

    def row(**params: str) -> list[object]:
        return sheet.values_get("Sheet1!A1:G1", params=params)["values"][0]  # type: ignore[no-any-return]

    assert row() == [
        "2025-12-09 18:00:00",
        "0.000012",
        "$1,234,567.89",
        "12.5%",
        "0.3333333333",
        "FALSE",
        "no",
    ]
    plain = [46000.75, 0.0000123, 1234567.891, 0.125, 1 / 3, False]
    assert row(valueRenderOption="UNFORMATTED_VALUE") == [*plain, "no"]
    assert row(valueRenderOption="FORMULA") == [*plain, '=IF(F1,"yes","no")']
    dates = {"valueRenderOption": "UNFORMATTED_VALUE", "dateTimeRenderOption": "FORMATTED_STRING"}
    assert row(**dates)[0] == "2025-12-09 18:00:00"


def test_several_ranges_are_read_in_one_call_and_blanks_at_the_end_are_cut(
    server: SheetsServer, update: Send, sheet: gspread.Spreadsheet
) -> None:
    update(append(0, [text("a"), text("b")], [text("c")], [{}, text("d")]))
    server.requests.clear()
    answer = sheet.values_batch_get(["Sheet1!A1:C9", "'Sheet1'!C1:C"])
    assert answer["valueRanges"] == [
        {
            "range": "Sheet1!A1:C9",
            "majorDimension": "ROWS",
            "values": [["a", "b"], ["c"], ["", "d"]],
        },
        {"range": "Sheet1!C1:C1000", "majorDimension": "ROWS"},
    ]
    assert [call.kind for call in server.requests] == ["read"]


def test_values_are_written_to_several_tabs_at_once_or_not_at_all(
    update: Send, sheet: gspread.Spreadsheet, book: Book
) -> None:
    update(add_sheet(7, "x"))
    data = [
        {"range": "Sheet1!A1", "values": [["a", None], ["b"]]},
        {"range": "x!A1:B1", "values": [[1, True]]},
    ]
    answer = sheet.values_batch_update({"valueInputOption": "RAW", "data": data})
    assert (answer["totalUpdatedCells"], answer["totalUpdatedSheets"]) == (4, 2)
    assert (book.tab(0).values(), book.tab(7).values()) == ([["a"], ["b"]], [[1, True]])
    bad = [{"range": "Sheet1!A1", "values": [["z"]]}, {"range": "x!A1:C3", "values": [["a"] * 4]}]
    with pytest.raises(gspread.exceptions.APIError, match=r"tried writing to column \[D\]"):
        sheet.values_batch_update({"valueInputOption": "RAW", "data": bad})
    assert book.tab(0).value("A1") == "a"
    sheet.values_clear("Sheet1!A1:A1")
    assert book.tab(0).values() == [[], ["b"]]


@pytest.mark.parametrize(
    ("range_", "written"),
    [
        ("Sheet1", "Sheet1!B7"),
        ("B4", "Sheet1!B7"),
        ("C5:D5", "Sheet1!B7"),
        ("B2:D4", "Sheet1!B7"),
        ("A3:G10", "Sheet1!B7"),
        ("A1", "Sheet1!A3"),
        ("E4", "Sheet1!E4"),
        ("A4", "Sheet1!A4"),
    ],
)
def test_values_append_finds_the_table_as_in_googles_guide(
    update: Send, sheet: gspread.Spreadsheet, range_: str, written: str
) -> None:
    full = [text("x")] * 3
    update(append(0, full, full), append(0, [{}, *full]))
    update(
        {
            "updateCells": {
                "start": {"sheetId": 0, "rowIndex": 2},
                "rows": [
                    {},
                    {"values": [{}, *full]},
                    {"values": [{}, *full]},
                    {"values": [{}, *full]},
                ],
                "fields": "userEnteredValue",
            }
        },
        {
            "updateCells": {
                "range": whole(startRowIndex=2, endRowIndex=3),
                "fields": "userEnteredValue",
            }
        },
    )
    answer = sheet.values_append(range_, {"valueInputOption": "RAW"}, {"values": [["new"]]})
    assert answer["updates"]["updatedRange"] == written


def test_values_append_overwrites_below_a_gap_unless_rows_are_inserted(
    update: Send, sheet: gspread.Spreadsheet, book: Book
) -> None:
    update(append(0, [text("a")], [{}], [text("b")], [text("c")]), append(0, [text("d")]))
    sheet.values_append("A1", {"valueInputOption": "RAW"}, {"values": [["1"], ["2"]]})
    assert book.tab(0).values() == [["a"], ["1"], ["2"], ["c"], ["d"]]
    sheet.values_append(
        "A1", {"valueInputOption": "RAW", "insertDataOption": "INSERT_ROWS"}, {"values": [["e"]]}
    )
    assert book.tab(0).values()[-1] == ["e"]
    assert book.tab(0).row_count == 1001


def test_gspreads_worksheets_work(sheet: gspread.Spreadsheet, book: Book) -> None:
    tab = sheet.add_worksheet("Keys", rows=2, cols=3)
    tab.append_row(["API Key", "Revoked"], table_range="A1:B1")
    tab.append_rows([["k1", False], ["k2", True]], table_range="A1:B1")
    assert tab.get_all_records() == [
        {"API Key": "k1", "Revoked": "FALSE"},
        {"API Key": "k2", "Revoked": "TRUE"},
    ]
    found = tab.find("k2")
    assert found is not None
    assert found.row == 3
    tab.update_cell(3, 2, False)
    tab.freeze(rows=1)
    sheet.worksheet("Keys").sort((1, "des"))  # `tab` believes that it has grown by more rows
    assert book.tab("Keys").records()[0] == {"API Key": "k2", "Revoked": False}
    sheet.del_worksheet(tab)
    assert book.titles == ["Sheet1"]


# ---------------------------------------------------------------- formulas


FORMULAS = {
    "=1+2*3^2": 19,
    "=-2+50%": -1.5,
    '="a"&1&TRUE': "a1TRUE",
    "=1/0": "#DIV/0!",
    '=IFERROR(1/0,"-")': "-",
    "=SUM(B2:B)": 60,
    '=SUMIFS(B:B,A:A,"ada")': 40,
    "=SUMIFS('data'!B2:B4,'data'!A2:A4,A3,B2:B4,\">5\")": 20,
    '=COUNTIFS(A:A,"a*")': 2,
    '=COUNTIFS(A2:A,"<>ada",A2:A,"<>")': 1,
    '=MAXIFS(B:B,A:A,"ada")': 30,
    '=MAXIFS(B:B,A:A,"nobody")': 0,
    "=COUNTA(A:A)": 4,
    '=IF(B2>5,"many","few")': "many",
    "=INDEX(A2:B4,2,2)": 20,
    '=MATCH("bob",A:A,0)': 3,
    '=VLOOKUP("bob",A:B,2,FALSE)': 20,
    '=XLOOKUP("nobody",A:A,B:B,"none")': "none",
    "=TODAY()": 46096,
    "=EOMONTH(TODAY(),-1)+1": 46082,
    "=DATE(2026,3,1)": 46082,
    '=TEXT(DATE(2026,3,1),"yyyy-mm")': "2026-03",
    '=TEXT(1234.5,"#,##0.00")': "1,234.50",
    "=LARGE(B2:B4,2)": 20,
    "=numbers": 10,
    "=missing!A1": "#REF!",
    "=FROBNICATE(1)": "#NAME?",
    '=QUERY(A:B,"select A")': "Loading...",
    "=1+": "#ERROR!",
}


@pytest.mark.parametrize(("formula", "value"), FORMULAS.items(), ids=FORMULAS.keys())
def test_formulas_are_computed(update: Send, send: Send, formula: str, value: object) -> None:
    rows = [[text(name), number(count)] for name, count in (("ada", 10), ("bob", 20), ("Ada", 30))]
    update(
        add_sheet(7, "data", columns=4),
        append(7, [text("Name"), text("Count")], *rows),
        {
            "addNamedRange": {
                "namedRange": {
                    "name": "numbers",
                    "range": whole(
                        7, startRowIndex=1, endRowIndex=4, startColumnIndex=1, endColumnIndex=2
                    ),
                }
            }
        },
        {
            "updateCells": {
                "start": {"sheetId": 7, "rowIndex": 0, "columnIndex": 3},
                "rows": [{"values": [{"userEnteredValue": {"formulaValue": formula}}]}],
                "fields": "userEnteredValue",
            }
        },
    )
    answers = [
        send("GET", "/values/data!D1", params={"valueRenderOption": option}).json()["values"]
        for option in ("UNFORMATTED_VALUE", "FORMULA")
    ]
    assert answers == [[[value]], [[formula]]]


# ---------------------------------------------------------------- quota


def test_sixty_reads_and_sixty_writes_a_minute(
    server: SheetsServer, send: Send, update: Send
) -> None:
    minute = 0.0
    server.quota.clock = lambda: minute
    try:
        reads = [send("GET", "?fields=spreadsheetId").status_code for _ in range(61)]
        assert reads == [200] * 60 + [429]
        writes = [update(append(0, [text("x")])) for _ in range(61)]
        assert [answer.status_code for answer in writes] == [200] * 60 + [429]
        error = writes[-1].json()["error"]
        assert error["status"] == "RESOURCE_EXHAUSTED"
        assert error["message"].startswith(
            "Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute per user'"
        )
        assert error["details"][0]["reason"] == "RATE_LIMIT_EXCEEDED"
        assert error["details"][0]["metadata"]["quota_limit"] == "WriteRequestsPerMinutePerUser"
        assert server.quota.used("read") == 60
        minute = 60.0
        assert send("GET", "?fields=spreadsheetId").status_code == 200
        assert server.quota.used("read") == 1
    finally:
        server.quota.clock = time.monotonic


# ---------------------------------------------------------------- faults


STATUS = {
    Fault.QUOTA: 429,
    Fault.INTERNAL: 500,
    Fault.UNAVAILABLE: 503,
    Fault.HTML: 502,
    Fault.INTERNAL_AFTER: 500,
    Fault.UNAVAILABLE_AFTER: 503,
    Fault.HTML_AFTER: 502,
    Fault.SLOW: 200,
}
SILENT = [Fault.RESET, Fault.RESET_AFTER, Fault.HANG, Fault.HANG_AFTER]


@pytest.mark.parametrize("fault", STATUS, ids=lambda fault: fault.name)
def test_a_fault_answers_so_and_applies_or_not(
    server: SheetsServer, update: Send, book: Book, fault: Fault
) -> None:
    server.faults.seconds = 0.05
    server.faults.next(fault, on="write")
    answer = update(append(0, [text("x")]))
    assert answer.status_code == STATUS[fault]
    assert answer.headers["content-type"].startswith("text/html") == fault.name.startswith("HTML")
    assert book.tab(0).values() == ([["x"]] if fault.after else [])
    assert server.writes[-1].fault is fault
    assert server.writes[-1].applied is fault.after
    assert update(append(0, [text("y")])).status_code == 200


@pytest.mark.parametrize("fault", SILENT, ids=lambda fault: fault.name)
def test_a_fault_that_does_not_answer_applies_or_not(
    server: SheetsServer, update: Send, book: Book, fault: Fault
) -> None:
    server.faults.seconds = 0.05
    server.faults.next(fault, on="write")
    with pytest.raises(requests.ConnectionError):
        update(append(0, [text("x")]))
    assert book.tab(0).values() == ([["x"]] if fault.after else [])
    assert server.writes[-1].status == 0


def test_a_client_that_waits_less_than_the_server_hangs_runs_into_its_timeout(
    server: SheetsServer, send: Send, session: AuthorizedSession, id: str
) -> None:
    send("GET", "")
    server.faults.seconds = 1
    server.faults.next(Fault.HANG)
    with pytest.raises(requests.Timeout):
        session.get(f"{server.url}/v4/spreadsheets/{id}", timeout=0.1)


def test_a_call_with_an_expired_token_is_repeated_by_google_auth(
    server: SheetsServer, update: Send, book: Book
) -> None:
    server.faults.next(Fault.EXPIRED, on="write")
    assert update(append(0, [text("x")])).status_code == 200
    assert [call.status for call in server.writes] == [401, 200]
    assert book.tab(0).values() == [["x"]]


def test_the_token_endpoint_fails_too(server: SheetsServer, session: AuthorizedSession) -> None:
    server.faults.next(Fault.HTML, on="token", times=10)
    with pytest.raises(RefreshError):
        session.credentials.refresh(Request())


def test_a_read_may_lag_behind_a_write(server: SheetsServer, update: Send, send: Send) -> None:
    update(append(0, [text("x")]))
    server.faults.next(Fault.STALE, on="read")
    assert "values" not in send("GET", "/values/A1").json()
    assert send("GET", "/values/A1").json()["values"] == [["x"]]


def test_faults_are_told_by_number_and_kind_of_call(
    server: SheetsServer, send: Send, update: Send
) -> None:
    server.faults.at(2, Fault.UNAVAILABLE, on="read")
    server.faults.next(Fault.QUOTA, 2, on="write", skip=1)
    reads = [send("GET", "").status_code for _ in range(3)]
    writes = [update(append(0, [text("x")])).status_code for _ in range(4)]
    assert (reads, writes) == ([200, 503, 200], [200, 429, 429, 200])


def test_an_outage_lasts_as_long_as_it_lasts(server: SheetsServer, send: Send) -> None:
    assert send("GET", "").status_code == 200
    with server.faults.outage():
        assert {send("GET", "").status_code for _ in range(5)} == {503}
    assert send("GET", "").status_code == 200


def test_a_share_of_the_calls_fails_by_a_seed(server: SheetsServer) -> None:
    def drawn(seed: int) -> list[Fault | None]:
        server.faults.clear()
        server.faults.share(0.12, seed=seed)
        return [server.faults.take("write") for _ in range(2000)]

    first = drawn(1)
    assert first == drawn(1)
    assert first != drawn(2)
    assert 180 <= len([fault for fault in first if fault]) <= 300
    assert {fault for fault in first if fault} == set(TRANSIENT)


def test_a_client_that_confirms_by_marker_loses_and_doubles_nothing(
    server: SheetsServer, id: str, book: Book, signed_in: Callable[..., AuthorizedSession]
) -> None:
    """The faults are worth something: plain repetition doubles rows, the marker does not."""
    server.quota.limits = {"read": 10_000, "write": 10_000}
    try:
        for marked in (True, False):
            server.faults.clear()
            server.faults.share(
                0.3, [f for f in TRANSIENT if f is not Fault.EXPIRED], on="write", seed=3
            )
            with signed_in() as session:
                for number_ in range(40):
                    rows = append(0, [text(f"{marked}-{number_}")])
                    batch = (
                        [name_range(str(number_ + 1), f"flush_{number_}"), rows]
                        if marked
                        else [rows]
                    )
                    while True:
                        try:
                            answer = session.post(
                                f"{server.url}/v4/spreadsheets/{id}:batchUpdate",
                                json={"requests": batch},
                            )
                        except requests.ConnectionError:
                            continue
                        if answer.status_code in (200, 400):
                            break
        rows_there = [row[0] for row in book.tab(0).values()]
        assert [row for row in rows_there if str(row).startswith("True")] == [
            f"True-{n}" for n in range(40)
        ]
        assert len(rows_there) > 80
    finally:
        server.quota.limits = {"read": 60, "write": 60}


# ---------------------------------------------------------------- a person


@pytest.fixture
def keys(update: Send) -> None:
    header = ["API Key", "Tier", "Revoked", "Key ID", "Requests"]
    rows = [
        [
            text(mask),
            text(tier),
            {"userEnteredValue": {"boolValue": False}},
            text(key),
            {"userEnteredValue": {"formulaValue": f"=SUMIFS(stats!B:B,stats!A:A,D{row})"}},
        ]
        for row, (mask, tier, key) in enumerate(
            [("sk-1…", "pro", "k1"), ("sk-2…", "free", "k2"), ("sk-3…", "mid", "k3")], 2
        )
    ]
    answer = update(
        add_sheet(7, "Keys", columns=5),
        append(7, [text(name) for name in header], *rows),
        add_sheet(8, "stats", columns=2),
        append(8, [text("k1"), number(1)], [text("k2"), number(2)], [text("k3"), number(3)]),
    )
    assert answer.status_code == 200


def by_key(book: Book, column: str = "Requests") -> list[tuple[object, object]]:
    return [(row["Key ID"], row[column]) for row in book.tab(7).records()]


@pytest.mark.usefixtures("keys")
class TestPerson:
    def test_sorts_and_the_formulas_still_mean_their_own_row(
        self, server: SheetsServer, id: str, book: Book
    ) -> None:
        server.person(id).sort("Keys", "Tier")
        assert by_key(book) == [("k2", 2), ("k3", 3), ("k1", 1)]
        server.person(id).sort("Keys", "Tier", descending=True)
        assert by_key(book) == [("k1", 1), ("k3", 3), ("k2", 2)]
        assert book.tab(7).header[0] == "API Key"

    def test_inserts_and_deletes_rows(self, server: SheetsServer, id: str, book: Book) -> None:
        person = server.person(id)
        person.insert_rows("Keys", before=3, count=2)
        assert by_key(book) == [("k1", 1), ("k2", 2), ("k3", 3)]
        assert book.tab(7).values()[2] == []
        person.delete_rows("Keys", 3, 2)
        person.delete_row("Keys", {"Key ID": "k2"})
        assert by_key(book) == [("k1", 1), ("k3", 3)]

    def test_moves_inserts_and_deletes_columns(
        self, server: SheetsServer, id: str, book: Book
    ) -> None:
        person = server.person(id)
        person.move_column("Keys", "Key ID", before="API Key")
        assert book.tab(7).header == ["Key ID", "API Key", "Tier", "Revoked", "Requests"]
        assert by_key(book) == [("k1", 1), ("k2", 2), ("k3", 3)]
        person.insert_column("Keys", before="Tier", header="Team")
        assert by_key(book) == [("k1", 1), ("k2", 2), ("k3", 3)]
        assert by_key(book, "Tier") == [("k1", "pro"), ("k2", "free"), ("k3", "mid")]
        person.delete_column("Keys", "Team")
        assert "Team" not in book.tab(7).header

    def test_edits_doubles_and_empties_headers(
        self, server: SheetsServer, id: str, book: Book
    ) -> None:
        person = server.person(id)
        person.rename_header("Keys", "Tier", "Plan")
        person.double_header("Keys", "API Key", over="Revoked")
        person.rename_header("Keys", "Requests", "")
        assert book.tab(7).header == ["API Key", "Plan", "API Key", "Key ID"]

    def test_types_into_cells(self, server: SheetsServer, id: str, book: Book) -> None:
        person = server.person(id)
        person.set("Keys", {"Key ID": "k2"}, {"Revoked": True, "Tier": "=1+1"})
        person.set("Keys", 4, {"API Key": None})
        person.set_cell("Keys", "B2", "vip")
        person.add_row("Keys", {"API Key": "sk-pasted", "Tier": "free"})
        assert by_key(book, "Revoked") == [("k1", False), ("k2", True), ("k3", False), ("", "")]
        assert by_key(book, "Tier") == [("k1", "vip"), ("k2", 2), ("k3", "mid"), ("", "free")]
        assert [row["API Key"] for row in book.tab(7).records()] == [
            "sk-1…",
            "sk-2…",
            "",
            "sk-pasted",
        ]

    def test_clears_copies_and_shuffles_rows(
        self, server: SheetsServer, id: str, book: Book
    ) -> None:
        person = server.person(id)
        person.clear_row("Keys", {"Key ID": "k2"})
        person.copy_row("Keys", {"Key ID": "k3"})
        assert by_key(book) == [("k1", 1), ("k3", 3), ("k3", 3)]
        person.shuffle("Keys")
        assert sorted(str(key) for key, _ in by_key(book)) == ["k1", "k3", "k3"]

    def test_renames_hides_and_deletes_tabs(
        self, server: SheetsServer, id: str, book: Book, update: Send
    ) -> None:
        person = server.person(id)
        person.rename_tab("stats", "It's stats")
        assert by_key(book) == [("k1", 1), ("k2", 2), ("k3", 3)]
        person.hide_tab("It's stats")
        assert book.tab(8).hidden
        person.delete_tab("It's stats")
        person.add_tab("stats")
        assert by_key(book)[0] == ("k1", "#REF!")
        assert "No grid with id: 8" in message(update(append(8, [text("x")])))

    def test_filters_and_hides_rows(self, server: SheetsServer, id: str, book: Book) -> None:
        person = server.person(id)
        person.add_filter("Keys")
        person.hide_rows("Keys", 2, 2)
        assert book.tab(7).basic_filter is not None
        assert book.tab(7).hidden_rows == [1, 2]
        person.sort("Keys", "Tier")
        assert book.tab(7).hidden_rows == [1, 2]


# ---------------------------------------------------------------- the log


def test_every_request_is_kept_as_it_came(server: SheetsServer, send: Send, update: Send) -> None:
    update(append(0, [text("secret")]))
    send("GET", "/values/A1?valueRenderOption=FORMULA")
    token, write, read = server.requests
    assert token.path == "/token"
    assert b"assertion=" in token.body
    assert write.json["requests"][0]["appendCells"]["rows"] == [{"values": [text("secret")]}]
    assert read.query == {"valueRenderOption": ["FORMULA"]}
    assert json.loads(read.answer)["values"] == [["secret"]]
    assert [call.api for call in (write, read)] == [
        "spreadsheets.batchUpdate",
        "spreadsheets.values.get",
    ]
    assert [call.number for call in server.requests] == [1, 2, 3]
