"""Trying a running gateway from outside, as its clients see it: `sluice check KEY`."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
import openai
from openai import OpenAI
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from gateway.sse import dump

_QUESTION = "What time is it in Oslo and Tokyo, and what is 17 * 23?"

console = Console(highlight=False)


class Failed(Exception):
    """A step did not show what it should; the message says what."""


@dataclass(slots=True)
class _Trial:
    """What the steps have in common."""

    url: str
    client: OpenAI
    http: httpx2.Client
    model: str
    request_ids: list[str] = field(default_factory=list)


def run(url: str, key: str, model: str | None) -> bool:
    """Prints each step as it happens. Returns whether all passed."""
    with httpx2.Client(
        base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60
    ) as http:
        client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)
        trial = _Trial(url, client, http, model or "")
        failures: list[str] = []
        for name, step in _STEPS:
            if not _try(name, step, trial):
                failures.append(name)
                if step in _NEEDED:
                    console.print("\n[red]Failed.[/] The other steps need this one.")
                    return False
    console.print()
    if failures:
        console.print(f"[red]{len(failures)} of {len(_STEPS)} failed:[/] {', '.join(failures)}")
    else:
        console.print(f"[green]All {len(_STEPS)} passed.[/]")
    return not failures


def _try(name: str, step: Callable[[_Trial], str], trial: _Trial) -> bool:
    console.print(f"\n[bold]{name}[/]")
    started = time.monotonic()
    try:
        said = step(trial)
    except Failed as error:
        console.print(f"  [red]✗[/] {escape(str(error))}")
        return False
    except (openai.APIError, httpx2.HTTPError, ValueError) as error:
        console.print(f"  [red]✗[/] {escape(type(error).__name__)}: {escape(str(error))}")
        return False
    console.print(f"  [green]✓[/] {escape(said)} [dim]({time.monotonic() - started:.2f} s)[/]")
    return True


def _reach(trial: _Trial) -> str:
    try:
        response = trial.http.get("/readyz")
    except httpx2.ConnectError as error:
        raise Failed(
            f"nothing answers at {trial.url}: is it running? Another address is named with --url."
        ) from error
    if response.status_code != 200:
        raise Failed(f"{trial.url}/readyz answered {response.status_code}")
    servers = response.json().get("servers", {})
    states = "".join(f"; {name} is {server['state']}" for name, server in servers.items())
    return f"{trial.url} is ready{states}"


def _list_models(trial: _Trial) -> str:
    names = [model.id for model in trial.client.models.list()]
    if not names:
        raise Failed("no models are listed")
    trial.model = trial.model or ("demo" if "demo" in names else names[0])
    if trial.client.models.retrieve(trial.model).id != trial.model:
        raise Failed(f"the model {trial.model!r} is not described")
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"{len(names)} models: {shown}; using {trial.model}"


def _stream(trial: _Trial) -> str:
    text, finish, usage = "", None, None
    notifications: list[str] = []
    with trial.client.chat.completions.with_streaming_response.create(
        model=trial.model,
        messages=[{"role": "user", "content": _QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    ) as response:
        trial.request_ids.append(response.headers.get("x-request-id", ""))
        for chunk in response.parse():
            notification = (chunk.model_extra or {}).get("tool_notification")
            if notification:
                notifications.append(notification["status"])
                _print_notification(notification)
                continue
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                piece = choice.delta.content or ""
                console.print(("" if text or not piece else "  ") + escape(piece), end="")
                text += piece
    console.print()
    if not text:
        raise Failed("no text was streamed")
    if finish is None:
        raise Failed("the stream ended without a finish_reason")
    if usage is None:
        raise Failed("no usage was streamed, though it was asked for")
    return (
        f"{len(text)} characters, {len(notifications)} notifications, finish_reason {finish}, "
        f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
    )


def _print_notification(notification: dict[str, object]) -> None:
    detail = notification.get("result") or ""
    if not detail and (arguments := notification.get("arguments")):
        detail = dump(arguments).decode()
    line = Text(f"  ⚙ {notification['tool']} {notification['status']} ", style="cyan")
    line.append(" ".join(str(detail).split()), style="dim")
    line.truncate(console.width - 1, overflow="ellipsis")
    console.print(line)


def _notify(trial: _Trial) -> str:
    """The same on the wire: the named frames that a reader of server-sent events gets."""
    body = {
        "model": trial.model,
        "stream": True,
        "messages": [{"role": "user", "content": _QUESTION}],
    }
    names: list[str] = []
    last = ""
    headers = {"x-tool-notifications": "named"}
    with trial.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        trial.request_ids.append(response.headers.get("x-request-id", ""))
        for line in response.iter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            last = line or last
    if last != "data: [DONE]":
        raise Failed(f"the stream ended with {last[:80]!r}, not with [DONE]")
    count = names.count("tool_notification")
    if not count and trial.model == "demo":
        raise Failed("no event named tool_notification came")
    if not count:
        return f"no tools were called: {trial.model} has none, or needed none for this question"
    return f"{count} events named tool_notification, then [DONE]"


def _collect(trial: _Trial) -> str:
    response = trial.client.chat.completions.with_raw_response.create(
        model=trial.model, messages=[{"role": "user", "content": "Say hello."}]
    )
    trial.request_ids.append(response.headers.get("x-request-id", ""))
    completion = response.parse()
    text = completion.choices[0].message.content
    if not text:
        raise Failed("the answer has no text")
    console.print(f"  {escape(text)}")
    if completion.usage is None or not completion.usage.total_tokens:
        raise Failed("the answer has no usage")
    return f"{completion.usage.total_tokens} tokens, finish_reason {completion.choices[0].finish_reason}"


def _refuse(trial: _Trial) -> str:
    stranger = trial.client.with_options(api_key="sk-wrong")
    try:
        stranger.chat.completions.create(
            model=trial.model, messages=[{"role": "user", "content": "Hello"}]
        )
    except openai.AuthenticationError as error:
        if error.code != "invalid_api_key":
            raise Failed(f"a wrong key gets the code {error.code!r}") from None
    else:
        raise Failed("a wrong key was served")
    try:
        trial.client.chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": "Hello"}]
        )
    except openai.NotFoundError as error:
        if error.param != "model":
            raise Failed(f"an unknown model is blamed on {error.param!r}") from None
    else:
        raise Failed("an unknown model was served")
    return "a wrong key gets 401, an unknown model 404"


def _account(trial: _Trial) -> str:
    if not all(trial.request_ids):
        raise Failed("a response had no x-request-id")
    for request_id in trial.request_ids:
        row = _settled(trial, request_id)
        if row["status"] != "ok":
            raise Failed(f"the row of {request_id} says {row['status']}")
        if not row["tokens_out"]:
            raise Failed(f"the row of {request_id} has no tokens")
        cost = "cost unknown" if row["cost_usd"] is None else f"${row['cost_usd']:.6f}"
        console.print(
            f"  …{escape(request_id[-12:])}: {row['tokens_in']} + {row['tokens_out']} tokens,"
            f" {cost}, {row['duration_ms']} ms, {row['tool_calls']} tool calls"
        )
    return f"{len(trial.request_ids)} requests, {len(trial.request_ids)} rows"


def _settled(trial: _Trial, request_id: str) -> dict[str, object]:
    """The row of a request. It is settled right after the last byte, which is not before it."""
    for _ in range(20):
        response = trial.http.get(f"/v1/usage/{request_id}")
        response.raise_for_status()
        row: dict[str, object] = response.json()
        if not isinstance(row, dict) or row.get("object") != "usage":
            raise Failed(f"/v1/usage/{request_id} is no usage row: is this a Sluice?")
        if row["status"] != "open":
            return row
        time.sleep(0.1)
    raise Failed(f"the row of {request_id} is still open")


_STEPS: tuple[tuple[str, Callable[[_Trial], str]], ...] = (
    ("Reach the gateway", _reach),
    ("List models", _list_models),
    ("Stream with the OpenAI SDK", _stream),
    ("Tool notifications on the wire", _notify),
    ("Answer without streaming", _collect),
    ("Refuse what is wrong", _refuse),
    ("Usage rows", _account),
)

_NEEDED = (_reach, _list_models)
"""Without an address and a key that is taken, the others would only say the same again."""
