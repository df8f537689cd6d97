"""Golden files: the events of a case in, the bytes of each wire out. `make goldens` writes them anew.

A case is `<case>.jsonl`: a first line `{"request": {…}}` with what the request asked for, if anything,
then an event per line with the name of its class under `event`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from adapters.wires.native import NativeWire
from adapters.wires.openai_chat import OpenAIChatWire
from adapters.wires.openai_completions import OpenAICompletionsWire
from gateway import events
from gateway.events import Error, Event, Step, Usage
from gateway.outcome import Outcome
from gateway.ports import Wire
from gateway.records import ApiKey, Call, Dialect
from gateway.request import ChatRequest
from gateway.sse import dump

FOLDER = Path(__file__).parent

WIRES: Mapping[str, Wire] = {
    "native": NativeWire(),
    "openai_chat": OpenAIChatWire(),
    "openai_completions": OpenAICompletionsWire(),
}
"""By the names of their entry points."""


def cases() -> list[Path]:
    return sorted(FOLDER.glob("*.jsonl"))


def produce(case: Path) -> dict[str, bytes]:
    """All golden files of a case by their names."""
    request, told = read(case)
    # A case without tools of ours looks the same in every dialect.
    shown = any(isinstance(e, events.ToolCallStart) and e.executor != "client" for e in told)
    files: dict[str, bytes] = {}
    for name, wire in WIRES.items():
        call = _call(request, Dialect.NAMED)
        files[f"{case.stem}.{name}.json"] = _whole(wire, call, told)
        if not wire.notifies:
            files[f"{case.stem}.{name}.sse"] = _stream(wire, call, told)
            continue
        for dialect in Dialect if shown else (Dialect.NAMED,):
            call = _call(request, dialect)
            files[f"{case.stem}.{name}.{dialect}.sse"] = _stream(wire, call, told)
    return files


def read(case: Path) -> tuple[ChatRequest, list[Event]]:
    lines = [json.loads(line) for line in case.read_text("utf-8").split("\n") if line]
    asked = lines.pop(0)["request"] if "request" in lines[0] else {}
    messages = [{"role": "user", "content": "Hi"}]
    request = ChatRequest(model="m", messages=messages, stream=True, **asked)
    return request, [_event(**line) for line in lines]


def _event(event: str, **fields: object) -> Event:
    made: Event = getattr(events, event)(**{name: _value(name, fields[name]) for name in fields})
    return made


def _value(name: str, value: object) -> object:
    match name, value:
        case ("usage" | "spent", Mapping()):
            return Usage(**value)
        case ("steps", list()):
            return tuple(Step(**(row | {"usage": _value("usage", row["usage"])})) for row in value)
        case ("further", list()):
            return tuple(value)
        case _:
            return value


def _call(request: ChatRequest, dialect: Dialect) -> Call:
    key = ApiKey(
        id="key_1",
        email="ada@example.com",
        name="",
        tier="default",
        masked="sk-Ab3…9xQ2",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Call(
        id="0198c0de-0000-7000-8000-000000000001",
        key=key,
        request=request,
        created=1764000000,
        dialect=dialect,
    )


def _stream(wire: Wire, call: Call, told: Sequence[Event]) -> bytes:
    encoder = wire.encoder(call)
    return encoder.begin() + b"".join(encoder.encode((event,)) for event in told)


def _whole(wire: Wire, call: Call, told: Sequence[Event]) -> bytes:
    outcome = Outcome()
    outcome.feed(told)
    end = outcome.end
    body = wire.render_error(end) if isinstance(end, Error) else wire.render(call, outcome)
    return orjson.dumps(orjson.loads(dump(body)), option=orjson.OPT_INDENT_2) + b"\n"


def _written() -> Iterator[Path]:
    for case in cases():
        for name, data in produce(case).items():
            path = FOLDER / name
            path.write_bytes(data)
            yield path


def main() -> None:
    written = set(_written())
    for path in {*FOLDER.glob("*.sse"), *FOLDER.glob("*.json")} - written:
        path.unlink()
    print(f"{len(written)} files of {len(cases())} cases")


if __name__ == "__main__":
    main()
