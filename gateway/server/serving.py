"""Running the gateway: from settings to a listening process."""

import asyncio
import gc
import logging
import socket

import uvloop

from gateway.ports import Ledger
from gateway.records import MintedKey
from gateway.server import logs
from gateway.server.app import create_app
from gateway.server.listener import GatewayServer
from gateway.server.service import Service
from gateway.server.settings import Settings, SettingsError

log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises `SettingsError` when it cannot start."""
    _run(settings, first_key=False)


def serve_dev(settings: Settings) -> None:
    """As `serve`; makes a first key when there is none, and prints commands that use it."""
    _run(settings, first_key=True)


def _run(settings: Settings, *, first_key: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, first_key=first_key))


async def _serve(settings: Settings, *, first_key: bool) -> None:
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    service: Service = app.state.service
    try:
        await asyncio.to_thread(service.ledger.start)
    except OSError as error:
        raise SettingsError(str(error)) from None
    with _listen(settings) as listener:
        # What start-up made lives as long as the process: not worth looking at in every collection.
        gc.collect()
        gc.freeze()
        server = GatewayServer(app, settings)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        ready = asyncio.create_task(server.listening.wait())
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            port = listener.getsockname()[1]
            log.info("listening on http://%s:%d", settings.host, port)
            if first_key:
                print(await asyncio.to_thread(_welcome, service.ledger, port), flush=True)
        ready.cancel()
        await serving


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        reason = error.strerror or str(error)
        raise SettingsError(f"SLUICE_PORT: cannot listen on {place}: {reason}") from None


def _welcome(ledger: Ledger, port: int) -> str:
    working = [key for key in ledger.keys() if not key.revoked]
    if working:
        lines = [
            f"Keys there are: {len(working)}. The secret of a key is shown only when it is made:"
        ]
        return "\n".join(["", *lines, "", "    .venv/bin/sluice keys create you@example.com", ""])
    return _snippets(ledger.create_key("you@example.com", "First key"), port)


def _snippets(minted: MintedKey, port: int) -> str:
    return f"""
Sluice is ready on http://localhost:{port}, with a demo engine and real tools. Your first key,
which is not shown again:

    {minted.secret}

Try it:

curl -N http://localhost:{port}/v1/chat/completions \\
  -H "Authorization: Bearer {minted.secret}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "demo", "stream": true, "messages": [{{"role": "user",
       "content": "What time is it in Oslo and Tokyo, and what is 17 * 23?"}}]}}'

.venv/bin/python - <<'END'
from openai import OpenAI
client = OpenAI(base_url="http://localhost:{port}/v1", api_key="{minted.secret}")
question = "What time is it in Oslo and Tokyo, and what is 17 * 23?"
for chunk in client.chat.completions.create(
    model="demo", stream=True, messages=[{{"role": "user", "content": question}}]
):
    notification = (chunk.model_extra or {{}}).get("tool_notification")
    if notification:
        print("[", notification["tool"], notification["status"], "]")
    elif chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
END

Then look at what it used: .venv/bin/sluice usage
"""
