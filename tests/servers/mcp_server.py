"""An MCP server over stdio that misbehaves on demand: `python mcp_server.py FOLDER [mute | crash]`.

It needs no SDK, so that it can do what none would. The folder is where a test reaches in: the server
takes changes of its tools from `tools.json`, does not start while there is `stay-away`, and appends
to `heard` what it was told.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
TOOLS = (
    *(
        "blocks",
        "change",
        "die",
        "echo",
        "env",
        "fail",
        "flood",
        "hang",
        "hidden",
        "junk",
        "progress",
    ),
    *("refuse", "sleep", "with.dot", "x" * 80),
)


def send(**message: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def hear(word: str) -> None:
    with (FOLDER / "heard").open("a") as file:
        file.write(f"{word}\n")


def tools() -> list[dict[str, Any]]:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    found = {name: {"name": name, "description": f"Does {name}."} for name in TOOLS}
    changes = FOLDER / "tools.json"
    if changes.exists():
        found |= json.loads(changes.read_text())
    return [{**tool, "inputSchema": schema} for tool in found.values() if tool]


def call(number: object, name: str, arguments: dict[str, Any], token: object) -> None:
    content: list[dict[str, object]] = []
    match name:
        case "die":
            print("Something broke for sk-test-Secret0000", file=sys.stderr, flush=True)
            os._exit(3)
        case "hang":
            return
        case "sleep":
            time.sleep(arguments["seconds"])
            content = [text("slept")]
        case "refuse":
            send(id=number, error={"code": -32000, "message": "no, said the token tok-98765432"})
            return
        case "junk":
            sys.stdout.write("this is no JSON\n")
            content = [text("junk came before")]
        case "progress":
            for step in (1, 2, 3):
                params = {"progressToken": token, "progress": step, "total": 3}
                send(method="notifications/progress", params={**params, "message": f"step {step}"})
            content = [text("walked")]
        case "change":
            (FOLDER / "tools.json").write_text(json.dumps(arguments))
            send(method="notifications/tools/list_changed")
            content = [text("changed")]
        case "env":
            content = [text(json.dumps(dict(os.environ)))]
        case "flood":
            content = [text("é" * 100_000)]
        case "hidden":
            content = [text("shown\u200b\u202e \U000e0041\U000e0042and\x1b[31m this\ttoo\nok")]
        case "blocks":
            link = {"type": "resource_link", "name": "a page", "uri": "http://a.test/"}
            resource = {"uri": "file:///a", "text": "of a resource"}
            content = [
                text("words"),
                {"type": "image", "data": "AAAA", "mimeType": "image/png"},
                link,
                {"type": "resource", "resource": resource},
                {"type": "resource", "resource": {"uri": "file:///b", "blob": "AAAA"}},
            ]
        case _:
            content = [text(json.dumps(arguments))]
    send(id=number, result={"content": content, "isError": name == "fail"})


def text(words: str) -> dict[str, object]:
    return {"type": "text", "text": words}


def answer(message: dict[str, Any]) -> None:
    number, params = message.get("id"), message.get("params") or {}
    match message.get("method"):
        case "initialize":
            result = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "misbehaving", "version": "1"},
            }
            send(id=number, result=result)
        case "tools/list":
            # Page by page, one tool each.
            there, place = tools(), int(params.get("cursor") or 0)
            result = {"tools": there[place : place + 1]}
            if place + 1 < len(there):
                result["nextCursor"] = str(place + 1)
            send(id=number, result=result)
        case "tools/call":
            hear(f"call {params['name']}")
            token = (params.get("_meta") or {}).get("progressToken")
            call(number, params["name"], params.get("arguments") or {}, token)
        case "notifications/cancelled":
            hear("cancelled")
        case _ if number is not None:
            send(id=number, error={"code": -32601, "message": "not known"})


def main() -> None:
    hear(f"start {os.getpid()}")
    if sys.argv[2:] == ["crash"] or (FOLDER / "stay-away").exists():
        print("Traceback (most recent call last):\nNo module named 'wiki'", file=sys.stderr)
        sys.exit(1)
    for line in sys.stdin:
        if sys.argv[2:] != ["mute"]:
            answer(json.loads(line))


if __name__ == "__main__":
    main()
