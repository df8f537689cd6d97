"""Running the gateway: from settings to a listening process."""

import asyncio
import errno
import gc
import logging
import socket
import sys
from pathlib import Path

import uvloop

from gateway.ports import Ledger
from gateway.records import MintedKey
from gateway.server import logs
from gateway.server.app import create_app
from gateway.server.listener import GatewayServer
from gateway.server.service import Service
from gateway.server.settings import Settings, SettingsError

log = logging.getLogger(__name__)

_COLLECTIONS = (20_000, 20, 50)
"""Objects, and collections, between two looks for cycles. A token is an object or two, hardly any of which is
in a cycle: at Python's 700 the search took 4 % of a request."""


def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises `SettingsError` when it cannot start."""
    _run(settings, first_key=False)


def serve_dev(settings: Settings) -> None:
    """As `serve`; makes a first key when there is none, and prints commands that use it."""
    _run(settings, first_key=True)


def _run(settings: Settings, *, first_key: bool) -> None:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, first_key=first_key))
    finally:
        logs.flush()  # before the operator is told of an error


async def _serve(settings: Settings, *, first_key: bool) -> None:
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    service: Service = app.state.service
    try:
        await asyncio.to_thread(service.ledger.start)
        if service.archive is not None:
            await asyncio.to_thread(service.archive.start)
    except OSError as error:
        raise SettingsError(str(error)) from None
    with _listen(settings) as listener:
        # What start-up made lives as long as the process: not worth looking at in every collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECTIONS)
        server = GatewayServer(app, settings)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        ready = asyncio.create_task(server.listening.wait())
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            port = listener.getsockname()[1]
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            log.info("listening on http://%s:%d", host, port)
            if first_key:
                model = await _first_model(service)
                url = settings.url(port)
                print(await asyncio.to_thread(_welcome, service.ledger, url, model), flush=True)
        ready.cancel()
        await serving


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"SLUICE_PORT: cannot listen on {place}, which another program does;"
                " set another port in the environment or in .env"
            ) from None
        # Python adds the address once more.
        reason = (error.strerror or str(error)).partition(" (while ")[0]
        variable = "SLUICE_PORT" if error.errno == errno.EACCES else "SLUICE_HOST"
        raise SettingsError(f"{variable}: cannot listen on {place}: {reason}") from None


async def _first_model(service: Service) -> str:
    """A model to try: the demo one if there is one, else the first of the settings or of a provider."""
    names = list(service.router.routes) or [
        str(row["id"]) for row in await service.models.list("default")
    ]
    return "demo" if "demo" in names or not names else names[0]


def _program(name: str) -> str:
    """How to call a program of this environment from this folder."""
    path = Path(sys.executable).with_name(name)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _welcome(ledger: Ledger, url: str, model: str) -> str:
    working = [key for key in ledger.keys() if not key.revoked]
    if not working:
        return _snippets(ledger.create_key("you@example.com", "First key"), url, model)
    keys = "There is a key" if len(working) == 1 else f"There are {len(working)} keys"
    return f"""
Sluice is ready on {url}. Ctrl-C stops it.
{keys} already; a secret is shown only when it is made. To make another one:

    {_program("sluice")} keys create you@example.com
"""


def _snippets(minted: MintedKey, url: str, model: str) -> str:
    about = ", with a demo engine and real tools" if model == "demo" else ""
    return f"""
Sluice is ready on {url}{about}. Ctrl-C stops it.
Your first key, which is not shown again:

    {minted.secret}

Try it, in another terminal:

curl -N {url}/v1/chat/completions \\
  -H "Authorization: Bearer {minted.secret}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user",
       "content": "What time is it in Oslo and Tokyo, and what is 17 * 23?"}}]}}'

{_program("python")} - <<'END'
from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="{minted.secret}")
question = "What time is it in Oslo and Tokyo, and what is 17 * 23?"
for chunk in client.chat.completions.create(
    model="{model}", stream=True, messages=[{{"role": "user", "content": question}}]
):
    notification = (chunk.model_extra or {{}}).get("tool_notification")
    if notification:
        print("[", notification["tool"], notification["status"], "]")
    elif chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
END

Then look at what it used: {_program("sluice")} usage
"""
