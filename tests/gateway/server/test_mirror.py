"""A gateway with a spreadsheet, from outside: rows arrive, and no outage of it is the gateway's."""

import json
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest

from tests.servers.gateway import SLUICE, Gateway
from tests.sheets_server.faults import Fault
from tests.sheets_server.server import SheetsServer

QUESTION = {"model": "demo-fast", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def sheets() -> Generator[SheetsServer, None, None]:
    with SheetsServer() as server:
        yield server


@pytest.fixture
def spreadsheet(sheets: SheetsServer) -> str:
    sheets.reset()
    return sheets.create()


@pytest.fixture
def gateway(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Gateway:
    environ = {
        "SLUICE_SHEET_ID": f"https://docs.google.com/spreadsheets/d/{spreadsheet}/edit",
        "SLUICE_GOOGLE_CREDENTIALS": json.dumps(sheets.credentials),
        "SLUICE_GOOGLE_API_BASE": sheets.url,
    }
    return Gateway(tmp_path / "gateway", env=environ)


def sluice(gateway: Gateway, *arguments: str) -> str:
    done = subprocess.run(
        [SLUICE, *arguments],
        env=gateway.env,
        cwd=gateway.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def ask(gateway: Gateway, secret: str) -> str:
    response = httpx2.post(
        f"{gateway.url}/v1/chat/completions",
        json=QUESTION,
        headers={"authorization": f"Bearer {secret}"},
        timeout=30,
    )
    assert response.status_code == 200
    return response.headers["x-request-id"]


def test_rows_arrive_and_an_outage_is_not_the_gateways(
    gateway: Gateway, sheets: SheetsServer, spreadsheet: str
) -> None:
    assert sheets.email in sluice(gateway, "sheets", "init")
    assert sluice(gateway, "sheets", "init").endswith("Everything is there.\n")
    secret = json.loads(sluice(gateway, "keys", "create", "ada@example.com", "--json"))["secret"]
    with gateway:
        with sheets.faults.outage(Fault.UNAVAILABLE):
            asked = [ask(gateway, secret) for _ in range(3)]
            ready = httpx2.get(f"{gateway.url}/readyz")
            assert ready.status_code == 200
            assert ready.json()["mirror"]["backlog_rows"] in (0, 1, 2, 3)
        deadline = time.monotonic() + 60
        book = sheets.spreadsheet(spreadsheet)
        while "ada_at_example_dot_com" not in book.titles:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        asked.append(ask(gateway, secret))
    # What was not there yet was written at the end.
    records = book.tab("ada_at_example_dot_com").records()
    assert sorted(str(record["Request ID"]) for record in records) == sorted(asked)
    assert secret not in book.text()
    assert secret not in "".join(gateway.log)


def test_a_gateway_without_a_spreadsheet_says_nothing_of_one(tmp_path: Path) -> None:
    with Gateway(tmp_path / "plain") as gateway:
        answer = httpx2.get(f"{gateway.url}/readyz").json()
        assert "mirror" not in answer


def test_credentials_that_cannot_be_read_are_told_at_the_start(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.env["SLUICE_GOOGLE_CREDENTIALS"] = str(tmp_path / "missing.json")
    said = sluice(gateway, "serve")
    assert said.count("\n") == 1
    assert "SLUICE_GOOGLE_CREDENTIALS" in said
    assert "cannot be read" in said


def test_a_revoked_share_is_told_by_init_with_the_address_to_share_with(
    gateway: Gateway, sheets: SheetsServer, spreadsheet: str
) -> None:
    sheets.share(spreadsheet, None)
    assert f"share the spreadsheet with {sheets.email} as Editor" in sluice(
        gateway, "sheets", "init"
    ).replace("\n", " ")
