"""The command line as an operator meets it: a process, its output, its exit code."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.servers.gateway import SLUICE, Gateway

ROOT = Path(__file__).parents[3]
STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def idle(tmp_path: Path) -> Gateway:
    """A folder without a running gateway."""
    return Gateway(tmp_path)


def refused(gateway: Gateway, *arguments: str) -> str:
    """What a command says that does not do what it was told."""
    done = gateway.run(*arguments, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def seen(gateway: Gateway, width: int, *arguments: str) -> str:
    """The output of a command on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    env = {**gateway.env, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [SLUICE, *arguments], env=env, cwd=gateway.folder, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait(60) == 0
    return STYLE.sub("", b"".join(parts).decode()).replace("\r\n", "\n")


def test_the_version_is_that_of_the_project(idle: Gateway) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert idle.run("--version").stdout == f"sluice {version}\n"


@pytest.mark.parametrize("command", ["", "serve", "dev", "check", "usage", "export", "keys"])
def test_every_command_has_a_help(idle: Gateway, command: str) -> None:
    shown = idle.run(*command.split(), "--help").stdout
    assert "Usage: sluice" in shown


def test_a_key_is_shown_whole_on_a_narrow_terminal(idle: Gateway) -> None:
    shown = seen(idle, 40, "keys", "create", "test@example.com", "Test Key")
    assert re.search(r"sk-\w{49}\b", shown)
    assert {"User", "Key", "Name", "Tier"} <= set(re.findall(r"│ (\w+) ", shown))


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_a_table_shortens_no_id_and_no_status(gateway: Gateway, width: int) -> None:
    email = "somebody.with.a.long.name@department.example.com"
    key = gateway.key(email)
    with gateway.client(key) as http:
        message = {"model": "a-model-of-a-name-that-is-much-too-long-for-this", "message": "Hi"}
        assert http.post("/chat", json=message).status_code == 404
    shown = seen(gateway, width, "keys", "list", "--all")
    listed = json.loads(gateway.run("keys", "list", "--all", "--json").stdout)
    assert [row["id"] for row in listed] == re.findall(r"^ (key_\w{16}) ", shown, re.MULTILINE)
    used = seen(gateway, width, "usage", "--email", email)
    assert " refused " in used
    assert max(map(len, (shown + used).splitlines())) <= width


def test_a_revoked_key_is_listed_only_with_all(idle: Gateway) -> None:
    idle.key("old@example.com")
    idle.key("new@example.com")
    [old, new] = json.loads(idle.run("keys", "list", "--json").stdout)
    assert "revoked   yes" in re.sub(" {3,}", "   ", idle.run("keys", "revoke", old["id"]).stdout)
    assert json.loads(idle.run("keys", "list", "--json").stdout) == [new]
    both = json.loads(idle.run("keys", "list", "--all", "--json").stdout)
    assert [row["revoked"] for row in both] == [True, False]
    assert "revoked   no" in re.sub(" {3,}", "   ", idle.run("keys", "show", new["id"]).stdout)


def test_a_rotated_key_keeps_what_it_is_for(idle: Gateway) -> None:
    idle.key("test@example.com", "Test Key", "--notifications", "inline")
    [old] = json.loads(idle.run("keys", "list", "--json").stdout)
    new = json.loads(idle.run("keys", "rotate", old["id"], "--json").stdout)
    assert new["secret"].startswith("sk-")
    kept = ("email", "name", "tier", "notifications")
    assert {name: new[name] for name in kept} == {name: old[name] for name in kept}
    [listed] = json.loads(idle.run("keys", "list", "--json").stdout)
    assert listed["id"] == new["id"]
    assert "create a new key" in refused(idle, "keys", "rotate", old["id"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("keys", "create", "nobody"), "name@example.com"),
        (("keys", "create", "a@example.com", "--tier", "gold"), "expected one of default"),
        (("keys", "show", "key_none"), "there is no key 'key_none'"),
        (("usage", "--since", "yesterday"), "expected 90m, 24h, 7d or 2026-11-30"),
        (("usage", "--since", "99999999999999999d"), "expected 90m, 24h, 7d or 2026-11-30"),
        (("usage", "--until", "0001-01-01T00:00+23:00"), "expected 90m, 24h, 7d or 2026-11-30"),
        (("export", "/"), "it is a folder"),
        (("export", ""), "it is a folder"),
        (("export", "--format", "csv", "nowhere/rows.csv"), "No such file or directory"),
        (("check", "sk-any"), "--url"),
        (("nonsense",), "No such command 'nonsense'"),
        (("keys", "show"), "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told(idle: Gateway, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in refused(idle, *arguments)


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(Gateway(tmp_path, env={"SLUICE_PORT": str(port)}), "serve")
    assert told == (
        f"sluice: SLUICE_PORT: cannot listen on 127.0.0.1:{port}, which another program does;"
        " set another port in the environment or in .env\n"
    )


def test_an_unknown_host_is_told_once(tmp_path: Path) -> None:
    told = refused(Gateway(tmp_path, env={"SLUICE_HOST": "nowhere.invalid"}), "serve")
    assert told.startswith("sluice: SLUICE_HOST: cannot listen on nowhere.invalid:0: ")
    assert told.count("nowhere.invalid") == 1


def test_a_check_passes_on_a_fresh_gateway(gateway: Gateway) -> None:
    done = gateway.run("check", gateway.key(), "--url", f"{gateway.url}/v1/")
    assert "All 7 passed." in done.stdout
    assert 'current_time started {"timezone":"Oslo"}' in done.stdout


def test_a_check_says_once_that_a_key_is_wrong(gateway: Gateway) -> None:
    done = gateway.run("check", "sk-wrong", "--url", gateway.url, check=False)
    assert done.returncode == 1
    assert done.stdout.count("Incorrect API key") == 1
    assert "The other steps need this one." in done.stdout


def test_a_check_of_nothing_says_so(idle: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = idle.run("check", "sk-any", "--url", url, check=False)
    assert done.returncode == 1
    assert f"nothing answers at {url}" in " ".join(done.stdout.split())


def printed(gateway: Gateway, last: str) -> str:
    """What `sluice dev` printed, up to its last line."""
    for _ in range(200):
        text = "".join(gateway.log)
        if last in text:
            return text
        time.sleep(0.05)
    raise AssertionError("".join(gateway.log))


def test_the_first_start_prints_commands_that_work(idle: Gateway) -> None:
    idle.start("dev")
    try:
        text = printed(idle, "Then look at what it used")
        assert "with a demo engine and real tools" in text
        curl = text[text.index("\ncurl") : text.index("\n\n" + sys.executable)]
        python = text[text.index(sys.executable) : text.index("\nThen look")]
        for command, sign in ((curl, "event: tool_notification"), (python, "calculator completed")):
            done = subprocess.run(
                ["/bin/sh", "-ec", command],
                env=idle.env,
                cwd=idle.folder,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert sign in done.stdout
            assert "391" in done.stdout
    finally:
        idle.stop()


def test_a_second_start_says_how_to_make_a_key(idle: Gateway) -> None:
    idle.key()
    idle.start("dev")
    try:
        assert "There is a key already" in printed(idle, "keys create you@example.com")
    finally:
        idle.stop()


def test_the_printed_commands_ask_a_model_that_there_is(tmp_path: Path) -> None:
    config = """
providers: {demo: {type: demo}}
models: {support: {targets: [demo/demo-echo]}}
"""
    gateway = Gateway(tmp_path, config)
    gateway.start("dev")
    try:
        text = printed(gateway, "Then look at what it used")
        assert '"model": "support"' in text
        assert 'model="support"' in text
        assert "demo engine" not in text
    finally:
        gateway.stop()


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_ctrl_c_is_no_failure(idle: Gateway, command: str) -> None:
    idle.start(command)
    assert idle.process is not None
    idle.process.send_signal(signal.SIGINT)
    assert idle.process.wait(60) == 0
    idle.process = None
    assert "Traceback" not in "".join(idle.log)


def test_a_module_that_is_nowhere_is_told(tmp_path: Path) -> None:
    told = refused(Gateway(tmp_path, "interceptors: [nowhere:shout]"), "serve")
    assert "sluice.yaml: interceptors.0: gateway.interceptors: there is no module" in told
    assert "'nowhere' in the environment or beside sluice.yaml" in told


def test_what_clients_wrote_moves_no_cursor(gateway: Gateway) -> None:
    with gateway.client(gateway.key("cursor@example.com")) as client:
        question = {"model": "\x1b[2J\x9b31m\r\n\u2028e\u202evil", "messages": [{"role": "user"}]}
        assert client.post("/v1/chat/completions", json=question).status_code == 400
        question["messages"] = [{"role": "user", "content": "x"}]
        assert client.post("/v1/chat/completions", json=question).status_code == 404
    shown = gateway.run("usage", "--email", "cursor@example.com").stdout
    assert "vil" in shown
    assert not {"\x1b", "\x9b", "\r", "\u2028", "\u202e"} & set(shown)


def test_a_full_disk_is_told(idle: Gateway) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SLUICE, "keys", "list"],
            env=idle.env,
            cwd=idle.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["sluice: [Errno 28] No space left on device"]


@pytest.mark.parametrize("name", ["os:path", ":", ".os:getcwd", "os:", "a b:c", "os:sep"])
def test_what_is_no_plug_in_is_told(tmp_path: Path, name: str) -> None:
    config = json.dumps({"providers": {"p": {"type": name}}})
    said = refused(Gateway(tmp_path / "type", config), "serve")
    assert len(said.splitlines()) == 1
    assert "sluice.yaml: providers.p.type: gateway.providers: " in said
    config = json.dumps({"interceptors": [name]})
    assert len(refused(Gateway(tmp_path / "interceptor", config), "serve").splitlines()) == 1
