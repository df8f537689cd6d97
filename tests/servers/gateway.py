"""A gateway as an operator runs it: a process of its own, with a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx2

SLUICE = str(Path(sys.executable).with_name("sluice"))


class Gateway:
    """`sluice serve` on a free port. Keeps its folder over restarts; knows its log."""

    def __init__(
        self, folder: Path, config: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        """`config` is the text of `sluice.yaml`; nothing else of this process's settings is handed on."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sluice.yaml").write_text(config)
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ
        }
        self.env = {
            **inherited,
            "SLUICE_PORT": "0",
            "SLUICE_DATA_DIR": str(folder / "data"),
            "SLUICE_CONFIG": str(folder / "sluice.yaml"),
            **(env or {}),
        }
        self.log: list[str] = []
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Gateway":
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, command: str = "serve") -> "Gateway":
        self.process = subprocess.Popen(
            [SLUICE, command],
            env=self.env,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        listening = threading.Event()
        threading.Thread(target=self._read, args=(self.process, listening), daemon=True).start()
        if not listening.wait(60) or not self.url:
            raise AssertionError("the gateway did not start:\n" + "".join(self.log))
        return self

    def _read(self, process: "subprocess.Popen[str]", listening: threading.Event) -> None:
        if process.stdout is None:
            raise AssertionError("no output is read")
        with process.stdout:
            for line in process.stdout:
                self.log.append(line)
                if match := re.search(r"listening on (http://[\w.:]+)", line):
                    self.url = match[1]
                    listening.set()
        listening.set()

    @property
    def pid(self) -> int:
        if self.process is None:
            raise AssertionError("the gateway does not run")
        return self.process.pid

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM, and its exit code."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        return self._end(signal.SIGKILL, 10)

    def _end(self, number: signal.Signals, timeout: float) -> int:
        if self.process is None:
            return 0
        process, self.process, self.url = self.process, None, ""
        process.send_signal(number)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Another `sluice` command on the same data."""
        return subprocess.run(
            [SLUICE, *arguments],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
        )

    def key(self, email: str = "test@example.com", *options: str) -> str:
        """A new key's secret."""
        created = self.run("keys", "create", email, *options, "--json")
        secret: str = json.loads(created.stdout)["secret"]
        return secret

    def rows(self) -> list[dict[str, object]]:
        """All usage rows, oldest first, as they are on disk now."""
        return [json.loads(line) for line in self.run("export").stdout.splitlines()]

    def client(self, key: str, **options: object) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"},
            timeout=30,
            **options,  # type: ignore[arg-type]  # handed on
        )
