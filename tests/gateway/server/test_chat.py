"""`sluice chat` and `sluice explain` against a running gateway, through a pipe and on a terminal."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from gateway.server.terminal import plain
from tests.servers.gateway import SLUICE, Gateway

QUESTION = "What time is it in Oslo, and what is 17 * 23?"
STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("chat")) as running:
        running.env["SLUICE_KEY"] = running.key()
        yield running


def chat(
    gateway: Gateway, *arguments: str, typed: str = "", env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    url = [] if "--url" in arguments else ["--url", gateway.url]
    return subprocess.run(
        [SLUICE, "chat", *url, *arguments],
        env={**gateway.env, **(env or {})},
        cwd=gateway.folder,
        capture_output=True,
        text=True,
        timeout=60,
        input=typed,
    )


def _take_terminal() -> None:
    os.login_tty(os.dup(0))
    # Whoever runs the tests in the background has this ignored, in all that they start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """`sluice chat` on a terminal, and what stands on it."""

    def __init__(self, gateway: Gateway, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self._process = subprocess.Popen(
            [SLUICE, "chat", "--url", gateway.url, *arguments],
            env={**gateway.env, "TERM": "xterm-256color"},
            cwd=gateway.folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        self.raw = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._ours, 65536)
            except OSError:  # how Linux tells that the other side is closed
                return
            self.raw += part.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        return STYLE.sub("", self.raw).replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str, count: int = 1) -> None:
        end = time.monotonic() + 30
        while self.text.count(text) < count:
            assert time.monotonic() < end, self.text
            time.sleep(0.02)

    def end(self) -> int:
        code = self._process.wait(30)
        self._reader.join(30)
        os.close(self._ours)
        return code


def test_a_pipe_gets_the_answer_and_nothing_else(gateway: Gateway) -> None:
    done = chat(gateway, QUESTION)
    assert done.returncode == 0
    assert "17 * 23 = 391" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "calculator" not in done.stdout
    assert re.search(r"✓ calculator \{.*17 \* 23.*\} ok, [\d.]+ s\n  391\n", done.stderr)
    assert re.search(r"\d+ tokens in, \d+ out · [\d.]+ s\n$", done.stderr)


def test_a_question_may_come_from_standard_input(gateway: Gateway) -> None:
    assert "391" in chat(gateway, typed="what is 17*23?\n").stdout
    assert chat(gateway, typed="").returncode == 2


def test_programs_get_every_event_as_a_line_of_json(gateway: Gateway) -> None:
    frames = [json.loads(line) for line in chat(gateway, "--json", QUESTION).stdout.splitlines()]
    kinds = {frame["type"] for frame in frames}
    assert {"reasoning_delta", "delta", "tool_call_start", "tool_call_result"} <= kinds
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[-1]["type"] == "complete"


def test_a_terminal_shows_text_thoughts_and_tools(gateway: Gateway) -> None:
    terminal = Terminal(gateway, QUESTION)
    assert terminal.end() == 0
    assert "I need tools for this" in terminal.text
    assert re.search(r"✓ calculator \{.*17 \* 23.*\} ok, [\d.]+ s\n +391", terminal.text)
    assert "17 * 23 = 391" in terminal.text
    assert re.search(r"\d+ tokens in, \d+ out · [\d.]+ s\n$", terminal.text)
    assert "\x1b[2;3m" in terminal.raw  # thoughts are dim
    assert re.search("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] calculator", terminal.text)  # while it ran


def test_a_conversation_remembers_and_ends_with_quit(gateway: Gateway) -> None:
    terminal = Terminal(gateway)
    terminal.wait_for("> ")
    terminal.type("my name is Ada\n")
    terminal.wait_for("tokens in")
    terminal.wait_for("> ", 2)
    terminal.type("what is my name?\n")
    terminal.wait_for("tokens in", 2)
    terminal.wait_for("> ", 3)
    terminal.type("/quit\n")
    assert terminal.end() == 0
    assert "Ada" in terminal.text.rpartition("what is my name?")[2]


def test_ctrl_c_stops_the_answer_and_ctrl_d_the_conversation(gateway: Gateway) -> None:
    terminal = Terminal(gateway, "--model", "demo-long")
    terminal.wait_for("> ")
    terminal.type("go on\n")
    terminal.wait_for(" the ")
    terminal.type("\x03")
    terminal.wait_for("stopped")
    terminal.wait_for("> ", 2)
    terminal.type("\x04")
    assert terminal.end() == 0
    assert "tokens in" not in terminal.text
    end = time.monotonic() + 60
    while gateway.rows()[-1]["status"] == "open":
        assert time.monotonic() < end
    assert gateway.rows()[-1]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["--url", "http://localhost:1"], 2, "`sluice serve`", id="no gateway"),
        pytest.param(["--url", "localhost:1"], 2, "no address", id="no address"),
        pytest.param(["--key", "sk-wrong"], 2, "sluice keys create", id="wrong key"),
        pytest.param(["--model", "nope"], 2, "one of demo, demo-fast,", id="unknown model"),
        pytest.param(["--model", "demo-fail"], 1, "fails, as it is meant to", id="refused"),
        pytest.param(["--model", "demo-break"], 1, "breaks off", id="broken off"),
    ],
)
def test_what_goes_wrong_is_one_line(
    gateway: Gateway, arguments: list[str], code: int, says: str
) -> None:
    done = chat(gateway, *arguments, "hello")
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.startswith("sluice: ")
    assert done.stderr.count("\n") == 1


def test_without_a_key_it_says_how_to_make_one(gateway: Gateway) -> None:
    done = chat(gateway, "hello", env={"SLUICE_KEY": ""})
    assert done.returncode == 2
    assert "sluice keys create" in done.stderr


def test_a_broken_answer_ends_in_an_error_for_programs(gateway: Gateway) -> None:
    done = chat(gateway, "--json", "--model", "demo-break", "hello")
    assert done.returncode == 1
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["type"] == "error"
    assert last["error"]["message"]


EVIL = "say \x1b[31mred\x1b]0;title\x07 \x9b31m \u202ereversed"


def test_control_characters_of_a_model_never_reach_the_terminal(gateway: Gateway) -> None:
    terminal = Terminal(gateway, "--model", "demo-echo", EVIL)
    assert terminal.end() == 0
    assert "[31mred" in terminal.text
    for bad in ("\x1b[31m", "\x1b]", "\x07", "\x9b", "\u202e"):
        assert bad not in terminal.raw
    piped = chat(gateway, "--json", "--model", "demo-echo", EVIL).stdout
    assert all(char == "\n" or " " <= char <= "~" for char in piped)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain\ttext\n", "plain\ttext\n", id="lines and tabs"),
        pytest.param("a\u00a0b 👩\u200d💻 ہ", "a\u00a0b 👩\u200d💻 ہ", id="every script"),
        pytest.param("a\r\nb\rc", "a\nbc", id="carriage return"),
        pytest.param("\x1b[2J\x07\x7f\x9b", "\ufffd[2J\ufffd\ufffd\ufffd", id="control"),
        pytest.param("\u202e\u2066\ud800\u2028", "\ufffd\ufffd\ufffd\n", id="direction"),
    ],
)
def test_text_is_made_fit_for_a_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_an_answer_that_is_cut_is_not_taken_for_a_whole_one(gateway: Gateway) -> None:
    def serve(listener: socket.socket) -> None:
        with listener, listener.accept()[0] as peer:
            peer.recv(65536)
            peer.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
                b'event: delta\ndata: {"type":"delta","text":"Half an"}\n\n'
            )

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = threading.Thread(target=serve, args=(listener,))
    server.start()
    done = chat(gateway, "--url", url, "--model", "m", "hello")
    server.join()
    assert done.returncode == 1
    assert done.stdout == "Half an\n"
    assert "the answer was cut" in done.stderr


def test_a_request_is_explained_by_either_of_its_ids(gateway: Gateway) -> None:
    chat(gateway, QUESTION)
    row = gateway.rows()[-1]
    request_id = str(row["request_id"])
    page = gateway.run("explain", request_id).stdout
    for shown in (request_id, "test@example.com", "demo → demo/demo", "ok (HTTP 200)", "UTC"):
        assert shown in page
    assert re.search(rf"In +{row['tokens_in']}\b", page)
    assert re.search(rf"Out +{row['tokens_out']}\b", page)
    assert re.search(rf"Tool calls +{row['tool_calls']}\b", page)
    chunk_id = "chatcmpl-" + request_id.replace("-", "")
    assert json.loads(gateway.run("explain", chunk_id, "--json").stdout) == row


def test_a_failed_request_is_explained_with_its_error(gateway: Gateway) -> None:
    chat(gateway, "--model", "nope", "hello")
    row = gateway.rows()[-1]
    page = gateway.run("explain", str(row["request_id"])).stdout
    assert re.search(r"Status +refused \(HTTP 404\)", page)
    assert re.search(r"Error +model_not_found", page)


@pytest.mark.parametrize("reference", ["nothing", "01a2118f-f6e8-72f0-9adc-f494c2f8a90a", "[/]"])
def test_an_unknown_request_is_one_line(gateway: Gateway, reference: str) -> None:
    done = gateway.run("explain", reference, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"there is no request {reference};" in done.stderr


def test_other_commands_do_not_wait_for_the_chat(tmp_path: Path) -> None:
    modules = subprocess.run(
        [SLUICE, "keys", "list"],
        env={**Gateway(tmp_path).env, "PYTHONPROFILEIMPORTTIME": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stderr
    assert "gateway.server.cli" in modules
    for module in ("gateway.server.chat", "gateway.server.explain", "httpx2", "openai", "uvicorn"):
        assert not re.search(rf"\| +{re.escape(module)}\n", modules)
