"""What the docs tell to paste does what they say it does."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.servers.gateway import Gateway

ROOT = Path(__file__).parent.parent
LOCAL = "http://localhost:3000"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    """In a folder like a checkout: with its scripts, and its environment on the path."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    bin_ = folder / ".venv" / "bin"
    bin_.mkdir(parents=True)
    for name in ("python", "python3", "sluice"):
        program = bin_ / name
        program.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name(name)}" "$@"\n')
        program.chmod(0o755)
    running = Gateway(folder)
    running.env["PATH"] = f"{bin_}:{running.env['PATH']}"
    with running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.key()


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def block(name: str, language: str, holding: str = "") -> str:
    """The first fenced block of a page in that language that has `holding` in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)
    return next(text for text in blocks if holding in text)


def commands(name: str, holding: str) -> list[str]:
    """The lines of the first indented block that has `holding` in it."""
    blocks = re.findall(r"(?:^    .+\n)+", page(name), re.MULTILINE)
    return [line.strip() for line in next(text for text in blocks if holding in text).splitlines()]


def sh(gateway: Gateway, command: str, **variables: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-ec", command],
        env={**gateway.env, **variables},
        cwd=gateway.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_the_example_of_the_readme_shows_tools_and_text(gateway: Gateway, key: str) -> None:
    program = block("README.md", "python").replace(LOCAL, gateway.url).replace("sk-…", key)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    for tool in ("current_time", "calculator"):
        assert f"{tool} started\n" in done.stdout
        assert f"{tool} completed\n" in done.stdout
    assert "17 * 23 = 391" in done.stdout


def test_the_first_steps_of_the_readme(gateway: Gateway, key: str) -> None:
    [check] = commands("README.md", "test_rest_api.py")
    assert "All 7 passed." in sh(gateway, f"{check.replace('sk-…', key)} --url {gateway.url}")
    usage, chat = sorted(
        commands("README.md", ".venv/bin/sluice usage"), key=lambda line: "chat" in line
    )
    assert "test@example.com" in sh(gateway, usage)
    chat = chat.partition("#")[0].replace("sk-…", key)
    assert "391" in sh(gateway, f'{chat} --url {gateway.url} "What is 17 * 23?"')


def test_the_commands_for_keys(gateway: Gateway) -> None:
    create, show, revoke, rotate, usage, export, workbook = commands(
        "README.md", "create_api_key.py"
    )
    ids = []
    for _ in "ab":
        assert "Test Key" in sh(gateway, create)
        ids.append(json.loads(gateway.run("keys", "list", "--json").stdout)[-1]["id"])
    assert ids[0] in sh(gateway, show)
    assert "yes" in sh(gateway, revoke.replace("key_…", ids[0]))
    assert "New API key" in sh(gateway, rotate.replace("key_…", ids[1]))
    assert not set(ids) & set(sh(gateway, "sluice keys list").split())
    sh(gateway, usage)
    sh(gateway, export)
    assert (gateway.folder / "usage.csv").read_text().startswith("request_id,time,email,")
    sh(gateway, workbook)
    assert (gateway.folder / "usage.xlsx").read_bytes().startswith(b"PK")


@pytest.mark.parametrize(
    ("name", "holding", "sign"),
    [
        ("docs/native.md", "curl", '"type":"tool_call_result"'),
        ("docs/http.md", "curl", '"id":"demo"'),
    ],
    ids=["native", "http"],
)
def test_what_is_asked_with_curl(
    gateway: Gateway, key: str, name: str, holding: str, sign: str
) -> None:
    assert sign in sh(gateway, block(name, "", holding).replace(LOCAL, gateway.url), KEY=key)


def test_the_documented_paths_are_there(gateway: Gateway, key: str) -> None:
    paths = re.findall(r"`(GET|POST) (/[^`]*)`", page("docs/http.md").split("## Headers")[0])
    with gateway.client(key) as http:
        for method, path in paths:
            answer = http.request(method, path.replace("{name}", "demo"), content=b"{}")
            assert "unknown_url" not in answer.text, path
            assert answer.status_code != 405, path


def test_a_backup_while_the_gateway_runs_is_whole(gateway: Gateway, key: str) -> None:
    database = gateway.folder / "data" / "sluice.db"
    [statement] = re.findall(r'sqlite3 -readonly \S+ "(VACUUM .*?)"', page("docs/ledger.md"))
    target = gateway.folder / re.findall("'(.*)'", statement)[0]
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.execute(statement.replace(target.name, str(target)))
    connection.close()
    copy = sqlite3.connect(target)
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    digests = copy.execute("SELECT count(*) FROM api_keys").fetchone()[0]
    copy.close()
    assert digests == len(json.loads(gateway.run("keys", "list", "--all", "--json").stdout))


def test_plug_ins_of_the_docs_work_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "shout.py").write_text(block("docs/architecture.md", "python", "def shout"))
    (tmp_path / "parrot.py").write_text(
        block("docs/adding-a-provider.md", "python", "class Parrot")
    )
    config = """
providers:
  demo: {type: demo, models: [demo-echo]}
  polly: {type: "parrot:ParrotProvider", base_url: "http://127.0.0.1:9"}
interceptors: [shout:shout]
"""
    echo = {"model": "demo-echo", "message": "quiet", "stream": False}
    with Gateway(tmp_path, config) as gateway, gateway.client(gateway.key()) as http:
        assert http.post("/chat", json=echo).json()["text"] == "QUIET"
        unreachable = http.post("/chat", json={**echo, "model": "polly/grey"})
        assert unreachable.status_code == 502
        assert unreachable.json()["error"]["code"] == "upstream_unreachable"


def test_the_demo_beside_others_is_asked_for_as_the_docs_say(tmp_path: Path) -> None:
    question = {"message": "What is 17 * 23?", "stream": False}
    with (
        Gateway(tmp_path, block("docs/demo.md", "yaml")) as gateway,
        gateway.client(gateway.key()) as http,
    ):
        for model in ("demo", "demo/demo-slow"):
            answer = http.post("/chat", json={**question, "model": model}).json()
            assert answer["tool_calls"][0]["name"] == "calculator"
