"""The processes that models of llama.cpp live in: one at work for each, started when it is needed."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gateway.events import Json
from gateway.secrets import conceal

log = logging.getLogger(__name__)

_LONGEST_LINE = 1 << 22
_CHECK = 120.0
"""Seconds in which a file's own description is read. It may be on a slow disk."""
_GOODBYE = 5.0
"""Seconds for a process to end when it is told to."""


class Busy(Exception):
    """As many requests wait for the model as may."""


class Crashed(Exception):
    """The process ended before the answer did. The message is for the operator."""


def check(paths: Mapping[str, Path]) -> None:
    """Raises `ValueError` in one line for a model that cannot be loaded. Blocks.

    Processes of their own read the files: what is wrong with a file may end the process that reads it.
    """
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(f"files.{name}: there is no file {str(path)!r}")
    started = {
        name: subprocess.Popen(
            _command(path, "--check"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
        for name, path in paths.items()
    }
    try:
        for name, process in started.items():
            _, said = process.communicate(timeout=_CHECK)
            if process.returncode:
                why = _last_line(said.splitlines()) or _ending(process.returncode)
                raise ValueError(f"files.{name}: {str(paths[name])!r} cannot be loaded: {why}")
    except subprocess.TimeoutExpired:
        raise ValueError(f"files.{name}: {str(paths[name])!r} was not read in time") from None
    finally:
        for process in started.values():
            process.kill()
            process.communicate()


class Worker:
    """One model. Answers one request at a time, in the order in which they come."""

    def __init__(self, name: str, path: Path, settings: Json, queue: int) -> None:
        self._name = name
        self._command = _command(path, orjson.dumps(settings).decode())
        self._queue = queue
        self._turn = asyncio.Lock()
        """Held from a question until the process is done with it, whether or not anybody listens."""
        self._waiting = 0
        self._asked = 0
        self._process: _Process | None = None
        self._closed = False

    async def ask(self, question: Json) -> AsyncGenerator[Sequence[Json], None]:
        """Lines of the answer, as many at once as are there. Raises `Busy` and `Crashed`.

        Closing it makes the process stop after the token, or the part of the prompt, that it is at.
        """
        await self._take_turn()
        process = None
        try:
            process = await self._running()
        finally:
            if process is None:
                self._turn.release()
        self._asked += 1
        answer = process.put(self._asked, question)
        try:
            while not answer.ended:
                if lines := await answer.read():
                    yield lines
            if answer.broken:
                raise Crashed(f"the process {process.failure}")
        finally:
            process.leave(answer)

    async def aclose(self) -> None:
        self._closed = True
        if self._process is not None:
            await self._process.aclose()

    async def _take_turn(self) -> None:
        if self._turn.locked() and self._waiting >= self._queue:
            raise Busy
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1

    async def _running(self) -> "_Process":
        if self._closed:
            raise Crashed("the gateway ends")
        if self._process is None or self._process.ended:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
                limit=_LONGEST_LINE,
            )
            self._process = _Process(self._name, process, self._turn)
        return self._process


@dataclass(slots=True, eq=False)
class _Answer:
    id: int
    done: bool = False
    """No more lines will come."""
    broken: bool = False
    """The process ended before the last of them."""
    _lines: deque[Json] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        return self.done and not self._lines

    def add(self, line: Json | None) -> None:
        """None where the process ended instead."""
        if line is None:
            self.done = self.broken = True
        else:
            self._lines.append(line)
            self.done = "end" in line or "error" in line
        self._news.set()

    async def read(self) -> Sequence[Json]:
        await self._news.wait()
        self._news.clear()
        lines = tuple(self._lines)
        self._lines.clear()
        return lines


class _Process:
    """A process as long as it lives, and what it was asked last."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, turn: asyncio.Lock) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.ended = False
        self.failure = ""
        """How it ended."""
        self._name = name
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._turn = turn
        self._answer: _Answer | None = None
        self._closing = False
        self._task = asyncio.create_task(self._run())

    def put(self, number: int, question: Json) -> _Answer:
        self._answer = _Answer(number)
        self._write({"id": number, **question})
        return self._answer

    def leave(self, answer: _Answer) -> None:
        if not answer.done:
            self._write({"cancel": answer.id})

    async def aclose(self) -> None:
        self._closing = True
        self._stdin.close()
        await asyncio.wait([self._task], timeout=_GOODBYE)
        if not self._task.done():
            self._process.kill()
            await self._task

    def _write(self, line: Json) -> None:
        if not (self.ended or self._closing):
            self._stdin.write(orjson.dumps(line) + b"\n")

    async def _run(self) -> None:
        said: deque[bytes] = deque(maxlen=20)
        listening = asyncio.create_task(_listen(self._stderr, said))
        with suppress(ConnectionError):
            while line := await self._stdout.readline():
                self._take(orjson.loads(line))
        self.ended = True
        status = await self._process.wait()
        await listening
        self.failure = _ending(status)
        if not self._closing:
            log.error(
                "the process of the model %s %s: %s", self._name, self.failure, _last_line(said)
            )
        if self._answer is not None:
            self._end(self._answer, None)

    def _take(self, line: Json) -> None:
        answer = self._answer
        if answer is None or line.get("id") != answer.id:
            return
        if "end" in line or "error" in line:
            self._end(answer, line)
        else:
            answer.add(line)

    def _end(self, answer: _Answer, line: Json | None) -> None:
        answer.add(line)
        self._answer = None
        self._turn.release()


async def _listen(stream: asyncio.StreamReader, said: deque[bytes]) -> None:
    with suppress(ConnectionError):
        while line := await stream.readline():
            said.append(line)


def _command(path: Path, settings: str) -> Sequence[str]:
    # -P: without the working folder, which may hold modules named like those of libraries.
    module = "adapters.providers.llamacpp_worker"
    return [sys.executable, "-P", "-m", module, os.fspath(path), settings]


def _environment() -> Mapping[str, str]:
    # Else a process that aborts takes seconds over a trace, after which its own words are not the last.
    return {**os.environ, "GGML_NO_BACKTRACE": "1"}


def _last_line(said: Sequence[bytes] | deque[bytes]) -> str:
    lines = [line.decode(errors="replace").strip() for line in said]
    return conceal(next((line for line in reversed(lines) if line), ""))[:300]


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
