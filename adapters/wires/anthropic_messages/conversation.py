"""Anthropic's messages as rows of OpenAI's form, which every provider reads.

One message may become several rows: results of tools are rows of their own, and a turn in which tools
of ours ran becomes what the model was told at the time. Where rows do not say all that the blocks do
(their order, marks for a cache, documents), the blocks go along for providers of the same API
(`gateway.request.NATIVE`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapters.wires.anthropic_messages.faults import missing, string, unsupported, wrong
from adapters.wires.anthropic_messages.server_tools import MARK, read_result, read_use
from gateway.request import NATIVE, Message
from gateway.sse import dump

Block = dict[str, object]
Part = dict[str, object]

_MOST = 100_000


def read(messages: object, system: object) -> list[Message]:
    """Raises `InvalidRequest`."""
    if not isinstance(messages, list):
        raise wrong("messages", "a valid list")
    if len(messages) > _MOST:
        raise wrong("messages", f"a list of at most {_MOST} messages")
    rows = [
        row
        for index, message in enumerate(messages)
        for row in _message(message, f"messages.{index}")
    ]
    if not rows:
        raise wrong("messages", "a list with at least 1 message")
    first = None if system is None else _system(system, "system")
    return rows if first is None else [first, *rows]


def _message(message: object, place: str) -> list[Message]:
    if not isinstance(message, dict):
        raise wrong(place, "an object")
    role = string(message, "role", place)
    if "content" not in message:
        raise missing(f"{place}.content")
    content, place_ = message["content"], f"{place}.content"
    match role:
        case "user" | "assistant" if isinstance(content, str):
            return [{"role": role, "content": content}]
        case "user":
            return _User().read(_blocks(content, place_), place_)
        case "assistant":
            return _Assistant().read(_blocks(content, place_), place_)
        case "system":
            row = _system(content, place_)
            if row is None:
                return []
            # In the midst of a conversation only some models of Anthropic's know it: this client's does.
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            return [{**row, NATIVE: blocks}]
        case _:
            raise wrong(f"{place}.role", "'user', 'assistant' or 'system'")


def _blocks(content: object, place: str) -> list[Block]:
    if not isinstance(content, list):
        raise wrong(place, "a valid string or a list of content blocks")
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            raise wrong(f"{place}.{index}", "an object")
        string(block, "type", f"{place}.{index}")
    return content


def _system(content: object, place: str) -> Message | None:
    if isinstance(content, str):
        return {"role": "system", "content": content} if content else None
    blocks = _blocks(content, place)
    if not blocks:
        return None
    parts: list[Part] = []
    for index, block in enumerate(blocks):
        if block["type"] != "text":
            raise wrong(f"{place}.{index}.type", "'text'")
        parts.append({"type": "text", "text": string(block, "text", f"{place}.{index}")})
    row: dict[str, object] = {"role": "system", "content": _lone_text(parts)}
    if parts != blocks:
        row[NATIVE] = blocks
    return row


def _lone_text(parts: list[Part]) -> object:
    """Many servers take a list only where there is something else than text."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


# What a user says


@dataclass(slots=True)
class _User:
    """The rows of a user's message: results of tools first, as every API wants them."""

    results: list[dict[str, object]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    said: list[Block] = field(default_factory=list)
    """The blocks besides the results."""
    exact: bool = True
    """Whether the parts say all that they do."""

    def read(self, blocks: Sequence[Block], place: str) -> list[Message]:
        for index, block in enumerate(blocks):
            at = f"{place}.{index}"
            if block["type"] == "tool_result":
                self._result(block, at)
            else:
                self._say(block, at)
        rows: list[Message] = [*self.results]
        if self.parts or self.said or not rows:
            row: dict[str, object] = {"role": "user", "content": _lone_text(self.parts) or ""}
            if not self.exact:
                row[NATIVE] = self.said
            rows.append(row)
        return rows

    def _say(self, block: Block, place: str) -> None:
        parts = _parts(block, place)
        self.parts += parts
        self.said.append(block)
        self.exact = self.exact and _says_all(block)

    def _result(self, block: Block, place: str) -> None:
        call_id = string(block, "tool_use_id", place)
        text, others, exact = _result_content(block.get("content"), f"{place}.content")
        row: dict[str, object] = {"role": "tool", "tool_call_id": call_id, "content": text}
        if others:
            # A result is text to most providers: the rest is shown right after it.
            self.parts += [{"type": "text", "text": f"What the tool call {call_id} returned:"}]
            self.parts += others
            self.exact = False
        if self.said or not exact or block.keys() - {"type", "tool_use_id", "content"}:
            row[NATIVE] = [*self.said, block]
            self.exact = self.exact and not self.said
            self.said = []
        self.results.append(row)


def _result_content(content: object, place: str) -> tuple[str, list[Part], bool]:
    """The text of a result, what else it holds, and whether that text is all of it."""
    if content is None:
        return "", [], True
    if isinstance(content, str):
        return content, [], True
    blocks = _blocks(content, place)
    parts = [
        part for index, block in enumerate(blocks) for part in _parts(block, f"{place}.{index}")
    ]
    texts = [str(part["text"]) for part in parts if part["type"] == "text"]
    others = [part for part in parts if part["type"] != "text"]
    exact = len(blocks) <= 1 and all(block.keys() == {"type", "text"} for block in blocks)
    return "\n".join(texts), others, exact


def _parts(block: Block, place: str) -> list[Part]:
    """A block as parts of OpenAI's form. What that has no word for stays what it is, to be taken by a
    provider of the same API and refused by another: nothing that a user shows is lost without a word."""
    match block["type"]:
        case "text":
            return [{"type": "text", "text": string(block, "text", place)}]
        case "image":
            return [_image(block, place)]
        case "document":
            return _document(block, place)
        case "search_result":
            return _search_result(block, place)
        case "tool_use" | "thinking" | "redacted_thinking" | "server_tool_use" as kind:
            raise unsupported(
                f"{place}.type", f"'{kind}' blocks are only allowed in assistant messages"
            )
        case "tool_result":
            raise unsupported(f"{place}.type", "a tool_result cannot hold another one")
        case _:
            return [block]


def _says_all(block: Block) -> bool:
    match block:
        case {"type": "text"}:
            return block.keys() == {"type", "text"}
        case {"type": "image", "source": {"type": "base64" | "url"}}:
            return block.keys() == {"type", "source"}
        case _:
            return False


def _source(block: Block, place: str) -> Mapping[str, object]:
    source = block.get("source")
    if source is None:
        raise missing(f"{place}.source")
    if not isinstance(source, dict):
        raise wrong(f"{place}.source", "an object")
    string(source, "type", f"{place}.source")
    return source


def _image(block: Block, place: str) -> Part:
    source, at = dict(_source(block, place)), f"{place}.source"
    match source["type"]:
        case "base64":
            kind, data = string(source, "media_type", at), string(source, "data", at)
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case "url":
            return {"type": "image_url", "image_url": {"url": string(source, "url", at)}}
        case _:
            return block


def _document(block: Block, place: str) -> list[Part]:
    source, at = dict(_source(block, place)), f"{place}.source"
    title = block.get("title")
    title = title if isinstance(title, str) and title else None
    match source["type"]:
        case "base64":
            kind, data = string(source, "media_type", at), string(source, "data", at)
            file = {
                "filename": title or "document.pdf",
                "file_data": f"data:{kind};base64,{data}",
            }
            return [{"type": "file", "file": file}]
        case "text":
            text = string(source, "data", at)
            return [{"type": "text", "text": f"{title}\n\n{text}" if title else text}]
        case "content":
            content = source.get("content")
            if isinstance(content, str):
                return [{"type": "text", "text": content}]
            blocks = _blocks(content, f"{at}.content")
            return [
                part
                for index, inner in enumerate(blocks)
                for part in _parts(inner, f"{at}.content.{index}")
            ]
        case _:
            return [block]


def _search_result(block: Block, place: str) -> list[Part]:
    title, source = string(block, "title", place), string(block, "source", place)
    blocks = _blocks(block.get("content"), f"{place}.content")
    texts = [
        string(inner, "text", f"{place}.content.{index}") for index, inner in enumerate(blocks)
    ]
    return [{"type": "text", "text": "\n".join([title, source, "", *texts])}]


# What a model said


@dataclass(slots=True)
class _Said:
    """One round of a model."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[dict[str, str]] = field(default_factory=list)
    calls: list[Block] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def row(self, *, native: bool) -> Message:
        row: dict[str, object] = {"role": "assistant"}
        text = "".join(self.texts)
        row["content"] = text or (None if self.calls else "")
        if self.calls:
            row["tool_calls"] = self.calls
        if self.thoughts:
            row["reasoning_details"] = self.thoughts
            # What is signed is Anthropic's, and nobody else wants it back.
            unsigned = [each["text"] for each in self.thoughts if each.keys() == {"text"}]
            if unsigned:
                row["reasoning_content"] = "".join(unsigned)
        if native:
            row[NATIVE] = self.blocks
        return row


@dataclass(slots=True)
class _Assistant:
    """The rows of an assistant's message: several where tools of ours ran in it."""

    rows: list[Message] = field(default_factory=list)
    said: _Said = field(default_factory=_Said)
    results: list[Message] = field(default_factory=list)
    """Of tools of ours, since the last row."""
    calls: list[Block] = field(default_factory=list)
    """The client's own, which end the turn: of the round in which they stand, if it is the last."""
    exact: bool = True

    def read(self, blocks: Sequence[Block], place: str) -> list[Message]:
        ours = _ours(blocks)
        for index, block in enumerate(blocks):
            self._read(block, f"{place}.{index}", ours)
        self.said.calls += self.calls
        self._flush()
        if self.said.blocks or self.said.calls or not self.rows:
            native = not ours and not (self.exact and _in_order(self.said.blocks))
            self.rows.append(self.said.row(native=native))
        return self.rows

    def _read(self, block: Block, place: str, ours: Mapping[str, str]) -> None:
        kind = block["type"]
        marked = str(block.get("id") or block.get("tool_use_id") or "")
        if marked.startswith(MARK):
            # A call of ours of which the client was not shown the result is nothing to tell a model.
            if marked in ours:
                self._replay(block, marked, ours[marked])
            return
        self._flush()
        said = self.said
        said.blocks.append(block)
        match kind:
            case "text":
                said.texts.append(string(block, "text", place))
                self.exact = self.exact and block.keys() == {"type", "text"}
                if _cites_ours(block):
                    said.blocks[-1] = {"type": "text", "text": block["text"]}
            case "thinking":
                said.thoughts.append({"text": string(block, "thinking", place)})
                if signature := block.get("signature"):
                    said.thoughts[-1]["signature"] = str(signature)
                else:
                    self.exact = False
            case "redacted_thinking":
                said.thoughts.append({"redacted": string(block, "data", place)})
            case "tool_use":
                self.calls.append(_call(block, place))
                self.exact = self.exact and block.keys() == {"type", "id", "name", "input"}
            case "tool_result" | "image":
                raise unsupported(
                    f"{place}.type", f"'{kind}' blocks are only allowed in user messages"
                )
            case _:
                self.exact = False

    def _replay(self, block: Block, marked: str, result: str) -> None:
        call_id = marked.removeprefix(MARK)
        if block["type"] != "server_tool_use":
            self.results.append({"role": "tool", "tool_call_id": call_id, "content": result})
            return
        self._flush()
        name, arguments = read_use(block)
        function = {"name": name, "arguments": arguments}
        self.said.calls.append({"id": call_id, "type": "function", "function": function})

    def _flush(self) -> None:
        """Ends a round once the results of its calls are there."""
        if self.results:
            self.rows += [self.said.row(native=False), *self.results]
            self.said, self.results = _Said(), []


def _ours(blocks: Sequence[Block]) -> dict[str, str]:
    """Results of our tools by the id of the call, where both are there."""
    called = {str(block.get("id")) for block in blocks if block["type"] == "server_tool_use"}
    results: dict[str, str] = {}
    for block in blocks:
        call_id = block.get("tool_use_id")
        if not isinstance(call_id, str) or not call_id.startswith(MARK) or call_id not in called:
            continue
        if (text := read_result(block)) is not None:
            results[call_id] = text
    return results


def _cites_ours(block: Block) -> bool:
    """Whether it has citations as we write them: without what Anthropic would know them by."""
    citations = block.get("citations")
    return isinstance(citations, list) and any(
        isinstance(citation, dict) and citation.get("encrypted_index") == ""
        for citation in citations
    )


def _call(block: Block, place: str) -> Block:
    call_id = string(block, "id", place)
    given = block.get("input", {})
    if not isinstance(given, dict):
        raise wrong(f"{place}.input", "an object")
    function = {"name": string(block, "name", place), "arguments": dump(given).decode()}
    return {"id": call_id, "type": "function", "function": function}


_ORDER = {"thinking": 0, "redacted_thinking": 0, "text": 1, "tool_use": 2}


def _in_order(blocks: Sequence[Block]) -> bool:
    """Whether they stand as they would be put together from a row: thinking, one text, calls."""
    places = [_ORDER[str(block["type"])] for block in blocks]
    return places == sorted(places) and places.count(1) <= 1
