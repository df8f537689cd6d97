"""Talking to a running gateway from a terminal: `sluice chat`."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import httpx2
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gateway.server.settings import SettingsError
from gateway.server.terminal import plain

with contextlib.suppress(ImportError):  # not everywhere
    import readline  # noqa: F401  # for its effect: lines can be edited, and earlier ones come back

_TIMEOUT = httpx2.Timeout(10, read=300)  # heartbeats come in between
_LONGEST_LIST = 12


class ChatError(Exception):
    """An answer that failed; one line."""


Frame = Mapping[str, object]


class Screen(Protocol):
    """Where the events of one answer are shown."""

    def __enter__(self) -> "Screen": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, frame: Frame, /) -> None: ...

    def fail(self, message: str, /) -> None: ...


def run(url: str, key: str, model: str | None, prompt: str | None, as_json: bool) -> int:
    """One answer to `prompt`, or a conversation until its end. Returns the exit code.

    Raises `SettingsError` when nothing can be asked: no gateway, no such key or model.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has not all of Unicode
    with httpx2.Client(
        base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=_TIMEOUT
    ) as http:
        chat = Chat(http, url, model or "")
        if not model:
            chat.model = chat.models()[0]
        if prompt is None and not sys.stdin.isatty():
            prompt = sys.stdin.read().strip()
            if not prompt:
                raise SettingsError("nothing to ask: standard input is empty")
        if prompt is None:
            return _converse(chat, as_json)
        try:
            return 0 if _answer(chat, prompt, as_json) else 1
        except KeyboardInterrupt:
            return 130


def _converse(chat: "Chat", as_json: bool) -> int:
    notes = Console(stderr=True, highlight=False)
    notes.print(
        Text(f"{plain(chat.model)} at {chat.url}. Ctrl-C stops an answer, /quit ends.", "dim")
    )
    while True:
        try:
            prompt = _ask()
        except KeyboardInterrupt:
            notes.print()
            continue
        except EOFError:
            notes.print()
            return 0
        if prompt in ("/quit", "/exit", "/q"):
            return 0
        if not prompt:
            continue
        try:
            _answer(chat, prompt, as_json)
        except KeyboardInterrupt:
            notes.print(Text("stopped", "yellow"))
        except SettingsError as error:  # the gateway may be back for the next question
            notes.print(Text.assemble(("sluice: ", "red"), plain(str(error))), soft_wrap=True)


def _ask() -> str:
    # What was typed may hold bytes that are no text.
    return input("> ").strip().encode("utf-8", "replace").decode()


def _answer(chat: "Chat", prompt: str, as_json: bool) -> bool:
    screen: Screen
    if as_json:
        screen = JsonLines()
    elif sys.stdout.isatty():
        screen = LiveScreen(Console(highlight=False))
    else:
        screen = PlainScreen(Console(stderr=True, highlight=False))
    with screen:
        try:
            for frame in chat.ask(prompt):
                screen.show(frame)
        except ChatError as error:
            screen.fail(str(error))
            return False
    return True


class Chat:
    """A conversation with one model, which knows what was said before."""

    def __init__(self, http: httpx2.Client, url: str, model: str) -> None:
        self.url = url
        self.model = model
        self._http = http
        self._history: list[dict[str, str]] = []

    def models(self) -> list[str]:
        """What this key may ask for; at least one. Raises `SettingsError`."""
        with self._explained():
            response = self._http.get("/v1/models")
            self._check(response)
            rows = _items(_object(response.text), "data")
        names = [str(row["id"]) for row in rows if "id" in row]
        if not names:
            raise SettingsError(f"the gateway at {self.url} has no models; sluice.yaml names them")
        return names

    def ask(self, prompt: str) -> Iterator[Frame]:
        """The frames of the answer, until its end. What came of it is part of the conversation, also
        when it is stopped. Raises `ChatError` and `SettingsError`."""
        question = {"role": "user", "content": prompt}
        said: list[str] = []
        body = {"model": self.model, "messages": [*self._history, question]}
        try:
            with (
                self._explained(),
                self._http.stream("POST", "/chat", json=body) as response,
            ):
                if response.status_code != 200:
                    response.read()
                self._check(response)
                for frame in _frames(response):
                    if frame.get("type") == "delta":
                        said.append(str(frame.get("text", "")))
                    if frame.get("type") == "error":
                        raise ChatError(_message(frame))
                    yield frame
                    if frame.get("type") == "complete":
                        return
            raise ChatError("the answer was cut: the connection ended before the answer did")
        finally:
            if said:
                self._history += [question, {"role": "assistant", "content": "".join(said)}]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx2.ConnectError:
            raise SettingsError(
                f"no gateway answers at {self.url}: `sluice serve` or `sluice dev` starts one,"
                " --url names another"
            ) from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise SettingsError(f"--url: {self.url!r} is no address: {error}") from None
        except httpx2.TimeoutException:
            raise ChatError(f"the gateway at {self.url} does not answer in time") from None
        except httpx2.HTTPError as error:
            raise ChatError(f"the answer was cut: {error or type(error).__name__}") from None

    def _check(self, response: httpx2.Response) -> None:
        if response.status_code == 200:
            return
        answer = _object(response.text)
        error = answer.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if response.status_code == 401:
            raise SettingsError(
                f"the gateway at {self.url} refuses the key;"
                " `sluice keys create you@example.com` makes one, for --key or SLUICE_KEY"
            )
        if code == "model_not_found" and response.request.method == "POST":
            known = self.models()
            more = f" and {len(known) - _LONGEST_LIST} more" if len(known) > _LONGEST_LIST else ""
            raise SettingsError(
                f"there is no model {self.model!r}; --model takes one of"
                f" {', '.join(known[:_LONGEST_LIST])}{more}"
            )
        if not isinstance(error, dict):
            raise SettingsError(
                f"{self.url} is no Sluice, it answers {response.status_code}; --url names another"
            )
        raise ChatError(_message(answer))


def _frames(response: httpx2.Response) -> Iterator[Frame]:
    """Data of server-sent events. Each of ours is one line of JSON."""
    for line in response.iter_lines():
        if line.startswith("data:"):
            yield _object(line[5:])


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _items(value: Mapping[str, object], name: str) -> list[dict[str, object]]:
    items = value.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _message(frame: Frame) -> str:
    error = frame.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return " ".join(str(message or "the gateway failed without a word").split())


class JsonLines:
    """Every event as a line of JSON, for programs."""

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, frame: Frame, /) -> None:
        print(json.dumps(frame), flush=True)

    def fail(self, message: str, /) -> None:
        self.show({"type": "error", "error": {"message": message}})


@dataclass(slots=True)
class Tool:
    """A tool call as far as it is known."""

    name: str
    started: float = field(default_factory=time.monotonic)
    arguments: str = ""
    progress: str = ""
    status: str = ""
    output: str = ""
    duration: float = 0.0

    def line(self, mark: str, style: str) -> Text:
        line = Text.assemble((f"{mark} {self.name}", style))
        if self.arguments:
            line.append(f" {self.arguments}", style="dim")
        return line


_MARKS = {"ok": ("✓", "green"), "cancelled": ("■", "yellow")}


class Tools:
    """The tool calls of one answer."""

    def __init__(self) -> None:
        self.open: dict[str, Tool] = {}

    def take(self, frame: Frame) -> Tool | None:
        """Follows a frame. Returns the call that it ends."""
        call_id = str(frame.get("call_id"))
        if frame.get("type") == "tool_call_start":
            if frame.get("executor") != "client":
                self.open[call_id] = Tool(_line(frame.get("name")))
            return None
        tool = self.open.get(call_id)
        if tool is None:
            return None
        match frame.get("type"):
            case "tool_call_ready":
                tool.arguments = _line(frame.get("arguments"))
            case "tool_call_progress":
                tool.progress = _progress(frame)
            case "tool_call_result":
                tool.status = _line(frame.get("status"))
                tool.output = _line(frame.get("output"))
                tool.duration = _number(frame.get("duration"))
                return self.open.pop(call_id)
        return None


def _progress(frame: Frame) -> str:
    done, total = frame.get("progress"), frame.get("total")
    figures = ""
    if isinstance(done, int | float):
        figures = f"{done:g}" + (f"/{total:g}" if isinstance(total, int | float) else "")
    return f"{figures} {_line(frame.get('message'))}".strip()


def _line(value: object) -> str:
    return " ".join(plain("" if value is None else str(value)).split())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _ended(tool: Tool) -> list[Text]:
    mark, style = _MARKS.get(tool.status, ("✗", "red"))
    line = tool.line(mark, style)
    line.append(f" {tool.status}, {tool.duration:.2f} s", style=style)
    return [line] + ([Text(f"  {tool.output}", style="dim")] if tool.output else [])


def _summary(frame: Frame, seconds: float) -> str:
    parts = []
    usage = frame.get("usage")
    if isinstance(usage, dict):
        tokens = (
            f"{usage.get('input_tokens', 0):,} tokens in, {usage.get('output_tokens', 0):,} out"
        )
        parts.append(tokens)
    parts.append(f"{seconds:.2f} s")
    if frame.get("finish_reason") != "stop":
        parts.append(f"ended by {_line(frame.get('finish_reason'))}")
    return " · ".join(parts)


class LiveScreen:
    """A terminal: text as it comes, tools that run in lines that move, those that ended above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tools = Tools()
        self._live: Live | None = None
        self._kind = ""
        """Of the text that was shown last, where nothing else was since."""
        self._open = False
        """Whether its line is."""
        self._started = time.monotonic()

    def __enter__(self) -> "LiveScreen":
        return self

    def __exit__(self, *error: object) -> None:
        self._rest()
        self._break()

    def show(self, frame: Frame, /) -> None:
        match frame.get("type"):
            case "delta" | "refusal_delta":
                self._write(str(frame.get("text", "")), "answer", "")
            case "reasoning_delta":
                self._write(str(frame.get("text", "")), "reasoning", "dim italic")
            case "citation":
                self._above(
                    [Text(_line(f"↗ {frame.get('title', '')} {frame.get('url', '')}"), "dim")]
                )
            case "complete":
                self._rest()
                self._break()
                self._console.print(Text(_summary(frame, self._seconds()), "dim"))
            case _:
                before = list(self._tools.open)
                ended = self._tools.take(frame)
                if ended is not None:
                    self._above(_ended(ended))
                elif before or self._tools.open:
                    self._watch()

    def fail(self, message: str, /) -> None:
        self._above([Text.assemble(("sluice: ", "red"), plain(message))], cut=False)

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _write(self, text: str, kind: str, style: str) -> None:
        if not text:
            return
        self._rest()
        if self._kind and self._kind != kind:
            self._break()
        if not self._kind:
            text = text.lstrip("\n")
        if text:
            self._kind = kind
            self._open = not text.endswith("\n")
            self._console.print(Text(plain(text), style), end="", soft_wrap=True)
            self._console.file.flush()

    def _above(self, lines: list[Text], *, cut: bool = True) -> None:
        self._rest()
        self._break()
        for line in lines:
            if cut:
                line.truncate(self._console.width - 1, overflow="ellipsis")
            self._console.print(line, soft_wrap=not cut)
        self._watch()

    def _break(self) -> None:
        if self._open:
            self._console.print()
        self._kind, self._open = "", False

    def _watch(self) -> None:
        """Shows the tools that run."""
        if not self._tools.open:
            return
        if self._live is None:
            self._break()
            self._live = Live(console=self._console, transient=True, get_renderable=self._running)
            self._live.start()
        self._live.refresh()

    def _rest(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _running(self) -> Group:
        return Group(*[self._row(tool) for tool in self._tools.open.values()])

    def _row(self, tool: Tool) -> Table:
        elapsed = time.monotonic() - tool.started
        text = tool.line("", "cyan")
        text.append(f" {tool.progress}" if tool.progress else "", style="cyan")
        text.append(f" {elapsed:.1f} s", style="dim")
        text.truncate(self._console.width - 3, overflow="ellipsis")
        spinner = Spinner("dots", style="cyan")
        spinner.start_time = 0.0  # a new one each time: what turns it is the clock
        row = Table.grid()
        row.add_row(spinner.render(elapsed), text)
        return row


class PlainScreen:
    """No terminal: the answer alone on standard output, all else in lines on standard error."""

    def __init__(self, notes: Console) -> None:
        self._notes = notes
        self._tools = Tools()
        self._started = time.monotonic()
        self._open = False

    def __enter__(self) -> "PlainScreen":
        return self

    def __exit__(self, *error: object) -> None:
        if self._open:
            self._open = False
            print(flush=True)

    def show(self, frame: Frame, /) -> None:
        match frame.get("type"):
            case "delta" | "refusal_delta":
                text = plain(str(frame.get("text", "")))
                print(text, end="", flush=True)
                self._open = not text.endswith("\n") if text else self._open
            case "complete":
                self.__exit__()
                self._note(Text(_summary(frame, time.monotonic() - self._started), "dim"))
            case _:
                ended = self._tools.take(frame)
                for line in [] if ended is None else _ended(ended):
                    self._note(line)

    def fail(self, message: str, /) -> None:
        self.__exit__()
        self._note(Text.assemble(("sluice: ", "red"), plain(message)))

    def _note(self, line: Text) -> None:
        self._notes.print(line, soft_wrap=True)
