"""A gateway that obeys a spreadsheet, from outside: the command, the process, calls over HTTP."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path

import httpx2
import pytest

from keys.mint import mint_secret
from tests.servers.gateway import SLUICE, Gateway
from tests.sheets_server.server import SheetsServer

TAB = "User API Keys"
PATIENCE = 15.0
"""Seconds in which a change in the spreadsheet has to count."""


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
        "SLUICE_SHEET_ID": spreadsheet,
        "SLUICE_GOOGLE_CREDENTIALS": json.dumps(sheets.credentials),
        "SLUICE_GOOGLE_API_BASE": sheets.url,
        "SLUICE_LOG_LEVEL": "debug",
    }
    return Gateway(tmp_path / "gateway", env=environ)


def sluice(gateway: Gateway, *arguments: str) -> str:
    return subprocess.run(
        [SLUICE, *arguments],
        env=gateway.env,
        cwd=gateway.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


def status(gateway: Gateway, secret: str) -> int:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx2.get(f"{gateway.url}/v1/models", headers=headers).status_code


def within(seconds: float, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def test_people_revoke_and_bring_keys_and_a_new_machine_knows_them(
    gateway: Gateway, sheets: SheetsServer, spreadsheet: str
) -> None:
    person, book = sheets.person(spreadsheet), sheets.spreadsheet(spreadsheet)
    sluice(gateway, "sheets", "init")
    make = ("keys", "create", "ada@example.com", "--json")
    one, two = (json.loads(sluice(gateway, *make)) for _ in range(2))
    brought = mint_secret()
    with gateway:
        within(30, lambda: len(book.tab(TAB).records()) == 2)
        assert status(gateway, one["secret"]) == 200

        person.set(TAB, {"Key ID": one["id"]}, {"Revoked": True})
        person.add_row(TAB, {"API Key": brought, "User Email": "eve@example.com"})
        within(PATIENCE, lambda: status(gateway, one["secret"]) == 401)
        within(PATIENCE, lambda: status(gateway, brought) == 200)
        assert status(gateway, two["secret"]) == 200
        within(PATIENCE, lambda: brought not in book.text())

    told = [json.loads(line) for line in sluice(gateway, "sheets", "audit", "--json").splitlines()]
    assert {(entry["actor"], entry["field"]) for entry in told} == {
        ("sheet", "revoked"),
        ("sheet", "key"),
    }
    assert "revoked: no -> yes" in sluice(gateway, "sheets", "audit", one["id"])
    assert "written anew" in sluice(gateway, "sheets", "dashboard")
    for secret in (one["secret"], two["secret"], brought):
        assert secret not in "".join(gateway.log)
        assert not [call for call in sheets.requests if secret.encode() in call.body]

    shutil.rmtree(gateway.folder / "data")
    with gateway:
        within(PATIENCE, lambda: status(gateway, brought) == 200)
        assert status(gateway, two["secret"]) == 200
        assert status(gateway, one["secret"]) == 401


def test_without_a_gateway_the_status_is_what_the_ledger_knows(
    gateway: Gateway, sheets: SheetsServer, spreadsheet: str
) -> None:
    sluice(gateway, "keys", "create", "ada@example.com")
    with gateway:
        listening = gateway.url.rpartition(":")[2]
        within(30, lambda: TAB in sheets.spreadsheet(spreadsheet).titles)
        within(30, lambda: httpx2.get(f"{gateway.url}/readyz").json()["mirror"]["last_flush"])
        within(30, lambda: httpx2.get(f"{gateway.url}/readyz").json()["mirror"]["last_look"])
        done = gateway.run("sheets", "status", check=False)
        assert done.returncode == 1
        assert "! with SLUICE_PORT=0" in done.stdout
        gateway.env["SLUICE_PORT"] = listening
        told = json.loads(sluice(gateway, "sheets", "status", "--json"))
        assert (told["state"], told["problems"]) == ("ok", [])
    done = gateway.run("sheets", "status", "--json", check=False)
    known = json.loads(done.stdout)
    assert done.returncode == 1
    assert known["state"] == "unknown"
    assert known["last_flush"] >= told["last_flush"]
    assert (known["backlog_rows"], known["quarantined_rows"]) == (0, 0)
    assert "no gateway answers at" in known["problems"][0]


def test_reconciling_beside_a_gateway(
    gateway: Gateway, sheets: SheetsServer, spreadsheet: str
) -> None:
    book = sheets.spreadsheet(spreadsheet)
    secret = json.loads(sluice(gateway, "keys", "create", "ada@example.com", "--json"))["secret"]
    question = {"model": "demo-fast", "messages": [{"role": "user", "content": "Hello"}]}
    with gateway:
        httpx2.post(
            f"{gateway.url}/v1/chat/completions",
            json=question,
            headers={"authorization": f"Bearer {secret}"},
            timeout=30,
        )
        within(30, lambda: "ada_at_example_dot_com" in book.titles)
        within(30, lambda: "0 waiting" in sluice(gateway, "sheets", "reconcile"))
        assert "Both sides have the same rows, each once." in sluice(gateway, "sheets", "reconcile")
