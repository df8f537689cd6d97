"""Golden files: what each wire makes of the probes of the conformance catalogue. `make goldens` writes
them anew."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import orjson

from adapters.wires.anthropic_messages import AnthropicMessagesWire
from adapters.wires.native import NativeWire
from adapters.wires.openai_chat import OpenAIChatWire
from adapters.wires.openai_completions import OpenAICompletionsWire
from adapters.wires.openai_responses import OpenAIResponsesWire
from gateway.events import Error, ToolCallStart
from gateway.ports import Wire
from gateway.records import ApiKey, Call, Dialect
from gateway.server.conformance import Probe, catalogue, render_stream
from gateway.sse import dump

FOLDER = Path(__file__).parent

WIRES: Mapping[str, Wire] = {
    "anthropic_messages": AnthropicMessagesWire(),
    "native": NativeWire(),
    "openai_chat": OpenAIChatWire(),
    "openai_completions": OpenAICompletionsWire(),
    "openai_responses": OpenAIResponsesWire(),
}
"""By the names of their entry points."""


KEY = ApiKey(
    id="key_1",
    email="ada@example.com",
    name="",
    tier="default",
    masked="sk-Ab3…9xQ2",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)

_LARGE = frozenset({"large_delta", "many_deltas"})
"""What they show is their size, which nobody reads in a file."""


def cases() -> list[Probe]:
    return [probe for name, probe in catalogue().items() if name not in _LARGE]


def produce(probe: Probe) -> dict[str, bytes]:
    """All golden files of a probe by their names."""
    # One without tools of ours looks the same in every dialect.
    shown = any(isinstance(e, ToolCallStart) and e.executor != "client" for e in probe.events)
    files: dict[str, bytes] = {}
    for name, wire in WIRES.items():
        call = probe.call(KEY, Dialect.NAMED)
        files[f"{probe.name}.{name}.json"] = _whole(wire, call, probe)
        if not wire.notifies:
            files[f"{probe.name}.{name}.sse"] = render_stream(wire, call, probe.events)
            continue
        for dialect in Dialect if shown else (Dialect.NAMED,):
            call = probe.call(KEY, dialect)
            stream = render_stream(wire, call, probe.events)
            files[f"{probe.name}.{name}.{dialect}.sse"] = stream
    return files


def _whole(wire: Wire, call: Call, probe: Probe) -> bytes:
    outcome = probe.outcome()
    end = outcome.end
    body = wire.render_error(end) if isinstance(end, Error) else wire.render(call, outcome)
    return orjson.dumps(orjson.loads(dump(body)), option=orjson.OPT_INDENT_2) + b"\n"


def _written() -> Iterator[Path]:
    for probe in cases():
        for name, data in produce(probe).items():
            path = FOLDER / name
            path.write_bytes(data)
            yield path


def main() -> None:
    written = set(_written())
    for path in {*FOLDER.glob("*.sse"), *FOLDER.glob("*.json")} - written:
        path.unlink()
    print(f"{len(written)} files of {len(cases())} probes")


if __name__ == "__main__":
    main()
