from collections.abc import Iterator

import pytest

from tests.sheets_server.server import SheetsServer


@pytest.fixture(scope="module")
def sheets_server() -> Iterator[SheetsServer]:
    with SheetsServer() as server:
        yield server


@pytest.fixture
def sheets(sheets_server: SheetsServer) -> SheetsServer:
    """The module's Sheets server as if new: no spreadsheets, no faults, nothing logged or counted."""
    sheets_server.reset()
    return sheets_server


@pytest.fixture
def spreadsheet(sheets: SheetsServer) -> str:
    """The id of a new spreadsheet, one default tab, shared with the service account."""
    return sheets.create("Sluice")
