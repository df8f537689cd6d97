"""A whole answer as one message, for requests that are not streamed."""

from adapters.wires.anthropic_messages.blocks import Blocks, Piece, Start, Step
from adapters.wires.anthropic_messages.parts import message, read_input, stop, usage_body
from gateway.events import Complete, Json
from gateway.outcome import Outcome
from gateway.records import Call, Dialect


def render(call: Call, outcome: Outcome) -> Json:
    blocks = Blocks(shows_tools=call.dialect is not Dialect.OFF)
    steps = [step for event in outcome.story for step in blocks.take(event)]
    end = outcome.end if isinstance(outcome.end, Complete) else Complete()
    steps += blocks.close(refused=end.finish_reason == "content_filter")
    body = message(call, _put_together(steps), usage_body(end.usage))
    return {**body, **stop(end, blocks.refusal)}


def _put_together(steps: list[Step]) -> list[Json]:
    content: list[dict[str, object]] = []
    texts: list[list[str]] = []
    for step in steps:
        if isinstance(step, Start):
            content.append(dict(step.block))
            texts.append([])
        elif isinstance(step, Piece):
            _write(step.delta, content[-1], texts[-1])
    for block, pieces in zip(content, texts, strict=True):
        if not pieces:
            continue
        text = "".join(pieces)
        match block["type"]:
            case "text" | "thinking" as kind:
                block[kind] = text
            case _:
                block["input"] = read_input(text)
    return list(content)


def _write(delta: Json, block: dict[str, object], pieces: list[str]) -> None:
    match delta:
        case {"citation": citation}:
            cited = block.setdefault("citations", [])
            assert isinstance(cited, list)
            cited.append(citation)
        case {"signature": signature}:
            block["signature"] = signature
        case {"text": str(piece)} | {"thinking": str(piece)} | {"partial_json": str(piece)}:
            pieces.append(piece)
