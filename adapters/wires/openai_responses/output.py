"""The items of an answer, in the order in which they began, and what a stream tells of each.

A message, a stretch of reasoning, a call of the client's function, a search or another tool that the
gateway ran. Calls that run side by side are open side by side; a message ends where something else
begins. Nothing here is invented: openai-node refuses a whole stream for one event that it does not know.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, assert_never

import orjson

from adapters.wires.openai_responses.items import SERVER_LABEL
from adapters.wires.openai_responses.request import ResponsesRequest
from adapters.wires.openai_responses.sealed import seal
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    Json,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.records import Call, Dialect

Change: TypeAlias = dict[str, object]
"""An event of OpenAI's stream, but for its number in it."""

_SEARCH = "web_search"


class Item(Protocol):
    def body(self) -> Json: ...

    def close(self, *, whole: bool) -> list[Change]:
        """Its end, if it has not ended. `whole`: whether the answer was."""
        ...


class Output:
    """The items of one answer."""

    def __init__(self, call: Call) -> None:
        request = call.request
        self._digits = call.id.replace("-", "")
        self._shows_tools = call.dialect is not Dialect.OFF
        self._sealed = isinstance(request, ResponsesRequest) and request.sealed_reasoning
        self._items: list[Item] = []
        self._length = 0
        """Of the text before the message that is open, as citations count."""
        self.message: Message | None = None
        """The one that is open."""
        self._reasoning: Reasoning | None = None
        self._calls: dict[str, FunctionCall | SearchCall | McpCall] = {}

    def items(self) -> list[Json]:
        return [item.body() for item in self._items]

    def close(self, *, whole: bool) -> list[Change]:
        """Ends what is open, at the end of the answer."""
        return [change for item in self._items for change in item.close(whole=whole)]

    def take(self, event: Event) -> list[Change]:
        match event:
            case _ if getattr(event, "choice", 0):
                return []  # a request here asks for one answer
            case Delta():
                return self._speak("output_text", event.text, event.logprobs)
            case RefusalDelta():
                return self._speak("refusal", event.text, None)
            case Citation():
                changes = self._open_message()
                assert self.message is not None
                return [*changes, *self.message.cite(event, self._length)]
            case ReasoningDelta():
                return self._think(event)
            case ToolCallStart():
                return self._start(event)
            case ToolCallDelta():
                call = self._calls.get(event.call_id)
                return call.write(event.fragment) if isinstance(call, FunctionCall) else []
            case ToolCallReady():
                call = self._calls.get(event.call_id)
                return [] if call is None else call.ready(event.arguments)
            case ToolCallResult():
                call = self._calls.get(event.call_id)
                return [] if call is None or isinstance(call, FunctionCall) else call.end(event)
            case ToolCallProgress() | StepStart() | Complete() | Error():
                return []
            case _:
                assert_never(event)

    def _name(self, prefix: str) -> tuple[int, str]:
        index = len(self._items)
        return index, f"{prefix}_{self._digits}{index:03x}"

    def _speak(
        self, kind: Literal["output_text", "refusal"], text: str, logprobs: Sequence[Json] | None
    ) -> list[Change]:
        if not text and not logprobs:
            return []
        changes = self._open_message()
        assert self.message is not None
        return [*changes, *self.message.write(kind, text, logprobs)]

    def _open_message(self) -> list[Change]:
        if self.message is not None:
            return []
        changes = self._rest()
        self.message = Message(*self._name("msg"))
        self._items.append(self.message)
        return [*changes, self.message.added()]

    def _think(self, event: ReasoningDelta) -> list[Change]:
        changes: list[Change] = []
        if self._reasoning is None:
            changes += self._rest()
            self._reasoning = Reasoning(*self._name("rs"), sealed=self._sealed)
            self._items.append(self._reasoning)
            changes.append(self._reasoning.added())
        return [*changes, *self._reasoning.write(event)]

    def _start(self, event: ToolCallStart) -> list[Change]:
        if event.executor != "client" and not self._shows_tools:
            return []
        changes = self._rest()
        call: FunctionCall | SearchCall | McpCall
        if event.executor == "client":
            call = FunctionCall(*self._name("fc"), event.call_id, event.name)
        elif event.name == _SEARCH:
            call = SearchCall(*self._name("ws"))
        else:
            call = McpCall(*self._name("mcp"), event)
        self._items.append(call)
        self._calls[event.call_id] = call
        return [*changes, *call.started()]

    def _rest(self) -> list[Change]:
        """Ends the message or reasoning that something else follows."""
        changes: list[Change] = []
        if self.message is not None:
            self._length += self.message.length
            changes += self.message.close(whole=True)
            self.message = None
        if self._reasoning is not None:
            changes += self._reasoning.close(whole=True)
            self._reasoning = None
        return changes


class _Part:
    """A part of a message's content."""

    def __init__(self, kind: Literal["output_text", "refusal"]) -> None:
        self.kind = kind
        self.text: list[str] = []
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []

    def body(self) -> Json:
        text = "".join(self.text)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "text": text,
            "annotations": list(self.annotations),
            "logprobs": list(self.logprobs),
        }


class Message:
    def __init__(self, index: int, item_id: str) -> None:
        self.index = index
        self.id = item_id
        self.parts: list[_Part] = []
        self._status = "in_progress"

    @property
    def length(self) -> int:
        return sum(
            len(piece) for part in self.parts if part.kind == "output_text" for piece in part.text
        )

    def text(self) -> list[str] | None:
        """The pieces of the text that is being written, if that is what is being written."""
        return self.parts[-1].text if self.parts and self.parts[-1].kind == "output_text" else None

    def body(self) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "status": self._status if self._status != "in_progress" else "incomplete",
            "role": "assistant",
            "content": [part.body() for part in self.parts],
        }

    def added(self) -> Change:
        return _added(self.index, {**self.body(), "status": "in_progress"})

    def write(
        self, kind: Literal["output_text", "refusal"], text: str, logprobs: Sequence[Json] | None
    ) -> list[Change]:
        changes = self._open(kind)
        self.parts[-1].text.append(text)
        if kind == "refusal":
            return [*changes, self._told("response.refusal.delta", {"delta": text})]
        scores = [score for entry in logprobs or () if (score := _score(entry)) is not None]
        self.parts[-1].logprobs += scores
        delta = {"logprobs": scores, "delta": text}
        return [*changes, self._told("response.output_text.delta", delta)]

    def cite(self, event: Citation, before: int) -> list[Change]:
        """`before`: length of the choice's text up to this message."""
        changes = self._open("output_text")
        annotations = self.parts[-1].annotations
        annotation = {
            "type": "url_citation",
            "url": event.url,
            "title": event.title,
            "start_index": max(event.start - before, 0),
            "end_index": max(event.end - before, 0),
        }
        annotations.append(annotation)
        told = {"annotation_index": len(annotations) - 1, "annotation": annotation}
        return [*changes, self._told("response.output_text.annotation.added", told)]

    def close(self, *, whole: bool) -> list[Change]:
        if self._status != "in_progress":
            return []
        changes = self._close_part()
        self._status = "completed" if whole else "incomplete"
        return [*changes, _done(self.index, self.body())]

    def _open(self, kind: Literal["output_text", "refusal"]) -> list[Change]:
        if self.parts and self.parts[-1].kind == kind:
            return []
        changes = self._close_part()
        self.parts.append(_Part(kind))
        part = self.parts[-1].body()
        return [*changes, self._told("response.content_part.added", {"part": part})]

    def _close_part(self) -> list[Change]:
        if not self.parts:
            return []
        part = self.parts[-1].body()
        if part["type"] == "refusal":
            done = self._told("response.refusal.done", {"refusal": part["refusal"]})
        else:
            told = {"text": part["text"], "logprobs": part["logprobs"]}
            done = self._told("response.output_text.done", told)
        return [done, self._told("response.content_part.done", {"part": part})]

    def _told(self, kind: str, more: Mapping[str, object]) -> Change:
        return {
            "type": kind,
            "item_id": self.id,
            "output_index": self.index,
            "content_index": len(self.parts) - 1,
            **more,
        }


class Reasoning:
    """What a model lets know of its thinking stands as a summary: OpenAI's clients show that."""

    def __init__(self, index: int, item_id: str, *, sealed: bool) -> None:
        self.index = index
        self.id = item_id
        self._sealed = sealed
        self._text: list[str] = []
        self._thoughts: list[dict[str, str]] = []
        self._open = True

    def body(self) -> Json:
        body: dict[str, object] = {"id": self.id, "type": "reasoning", "summary": self._summary()}
        if self._sealed:
            body["encrypted_content"] = seal(self._thoughts)
        return body

    def added(self) -> Change:
        return _added(self.index, {"id": self.id, "type": "reasoning", "summary": []})

    def write(self, event: ReasoningDelta) -> list[Change]:
        self._keep(event)
        if not event.text:
            return []
        changes = []
        if not self._text:
            part = {"part": {"type": "summary_text", "text": ""}}
            changes.append(self._told("response.reasoning_summary_part.added", part))
        self._text.append(event.text)
        delta = {"delta": event.text}
        return [*changes, self._told("response.reasoning_summary_text.delta", delta)]

    def close(self, *, whole: bool) -> list[Change]:
        if not self._open:
            return []
        self._open = False
        changes = []
        for part in self._summary():
            told = {"text": part["text"]}
            changes.append(self._told("response.reasoning_summary_text.done", told))
            changes.append(self._told("response.reasoning_summary_part.done", {"part": part}))
        return [*changes, _done(self.index, self.body())]

    def _summary(self) -> list[Json]:
        return [{"type": "summary_text", "text": "".join(self._text)}] if self._text else []

    def _keep(self, event: ReasoningDelta) -> None:
        """One entry for each stretch of thinking, as its provider wants it back."""
        if event.redacted is not None:
            self._thoughts.append({"redacted": event.redacted})
            return
        last = self._thoughts[-1] if self._thoughts else {"redacted": ""}
        if "signature" in last or "redacted" in last:
            last = {"text": ""}
            self._thoughts.append(last)
        last["text"] += event.text
        if event.signature is not None:
            last["signature"] = event.signature

    def _told(self, kind: str, more: Mapping[str, object]) -> Change:
        where = {"item_id": self.id, "output_index": self.index, "summary_index": 0}
        return {"type": kind, **where, **more}


class FunctionCall:
    """A call that the client is to run."""

    def __init__(self, index: int, item_id: str, call_id: str, name: str) -> None:
        self.index = index
        self.id = item_id
        self._call_id = call_id
        self._name = name
        self._arguments: list[str] = []
        self._status = "in_progress"

    def body(self) -> Json:
        return {
            "id": self.id,
            "type": "function_call",
            "status": self._status if self._status != "in_progress" else "incomplete",
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._arguments),
        }

    def started(self) -> list[Change]:
        return [_added(self.index, {**self.body(), "status": "in_progress"})]

    def write(self, fragment: str) -> list[Change]:
        if not fragment or self._status != "in_progress":
            return []
        self._arguments.append(fragment)
        told = {"delta": fragment}
        return [_told("response.function_call_arguments.delta", self.id, self.index, told)]

    def ready(self, arguments: str) -> list[Change]:
        if self._status != "in_progress":
            return []
        # A provider may tell arguments only whole, at their end.
        changes = self.write(arguments) if not self._arguments else []
        self._arguments = [arguments]
        self._status = "completed"
        told = {"name": self._name, "arguments": arguments}
        done = _told("response.function_call_arguments.done", self.id, self.index, told)
        return [*changes, done, _done(self.index, self.body())]

    def close(self, *, whole: bool) -> list[Change]:
        """An answer may be cut within the arguments."""
        if self._status != "in_progress":
            return []
        self._status = "incomplete"
        return [_done(self.index, self.body())]


class SearchCall:
    def __init__(self, index: int, item_id: str) -> None:
        self.index = index
        self.id = item_id
        self._query = ""
        self._status = "in_progress"

    def body(self) -> Json:
        action = {"type": "search", "query": self._query}
        if self._query:
            action["queries"] = [self._query]  # type: ignore[assignment]  # JSON of any kind
        return {"id": self.id, "type": "web_search_call", "status": self._status, "action": action}

    def started(self) -> list[Change]:
        return [_added(self.index, self.body()), self._tell("in_progress")]

    def ready(self, arguments: str) -> list[Change]:
        self._query = _query(arguments)
        self._status = "searching"
        return [self._tell("searching")]

    def end(self, event: ToolCallResult) -> list[Change]:
        if event.status == "ok":
            self._status = "completed"
            return [self._tell("completed"), _done(self.index, self.body())]
        return self._fail()

    def close(self, *, whole: bool) -> list[Change]:
        return self._fail() if self._status in ("in_progress", "searching") else []

    def _fail(self) -> list[Change]:
        self._status = "failed"  # there is no event for that
        return [_done(self.index, self.body())]

    def _tell(self, what: str) -> Change:
        return _told(f"response.web_search_call.{what}", self.id, self.index, {})


class McpCall:
    """Its id ends in the call's own, by which the call is known when a client sends it back."""

    def __init__(self, index: int, item_id: str, event: ToolCallStart) -> None:
        self.index = index
        self.id = f"{item_id}_{event.call_id}"
        self._name = event.name
        self._server = event.server or SERVER_LABEL
        self._arguments = ""
        self._output: str | None = None
        self._error: Json | None = None
        self._status = "in_progress"

    def body(self) -> Json:
        return {
            "id": self.id,
            "type": "mcp_call",
            "status": self._status,
            "approval_request_id": None,
            "server_label": self._server,
            "name": self._name,
            "arguments": self._arguments,
            "output": self._output,
            "error": self._error,
        }

    def started(self) -> list[Change]:
        return [_added(self.index, self.body()), self._tell("mcp_call.in_progress", {})]

    def ready(self, arguments: str) -> list[Change]:
        self._arguments = arguments or "{}"  # which is JSON also where they are not shown
        return [
            self._tell("mcp_call_arguments.delta", {"delta": self._arguments}),
            self._tell("mcp_call_arguments.done", {"arguments": self._arguments}),
        ]

    def end(self, event: ToolCallResult) -> list[Change]:
        if event.status == "ok":
            self._status, self._output = "completed", event.output
            told = self._tell("mcp_call.completed", {})
        else:
            told = self._fail(event.output or event.status)
        return [told, _done(self.index, self.body())]

    def close(self, *, whole: bool) -> list[Change]:
        if self._status != "in_progress":
            return []
        told = self._fail("cancelled")
        return [told, _done(self.index, self.body())]

    def _fail(self, text: str) -> Change:
        self._status = "failed"
        content = [{"type": "text", "text": text}]
        self._error = {"type": "mcp_tool_execution_error", "content": content}
        return self._tell("mcp_call.failed", {})

    def _tell(self, what: str, more: Mapping[str, object]) -> Change:
        return _told(f"response.{what}", self.id, self.index, more)


def _added(index: int, item: Json) -> Change:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def _done(index: int, item: Json) -> Change:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def _told(kind: str, item_id: str, index: int, more: Mapping[str, object]) -> Change:
    return {"type": kind, "item_id": item_id, "output_index": index, **more}


def _query(arguments: str) -> str:
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    query = value.get("query") if isinstance(value, dict) else None
    return query if isinstance(query, str) else ""


def _score(entry: Json) -> Json | None:
    """A token's probability as chat completions have it, with the fields that must not be null here."""
    token = _token(entry)
    if token is None:
        return None
    top = entry.get("top_logprobs")
    others = (
        [_token(other) for other in top if isinstance(other, dict)] if isinstance(top, list) else []
    )
    return {**token, "top_logprobs": [other for other in others if other is not None]}


def _token(entry: Json) -> Json | None:
    token, logprob, data = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    if not isinstance(token, str) or not isinstance(logprob, int | float):
        return None
    if not isinstance(data, list):
        data = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": logprob, "bytes": data}
