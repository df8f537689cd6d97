"""Tools that the gateway or a provider runs, as blocks; and the same blocks when a client replays them.

Anthropic's format has blocks for tools that are not the client's to run, but only for those that
Anthropic has; its SDKs complain of any other name. A search of ours is one of those. Any other call is
written as a program of one line, `calculator({"expression":"17 * 23"})`, and its result as what that
printed. The ids carry a mark, so that what comes back is known for ours and can be told to the model
as what it was: a call and its result.
"""

import re
from collections.abc import Iterable, Mapping

import orjson

from adapters.wires.anthropic_messages.parts import read_input
from gateway.events import Json, ToolCallResult, ToolStatus
from gateway.sse import dump

MARK = "srvtoolu_gw_"

_SEARCH, _PROGRAM = "web_search", "code_execution"
_LINE = re.compile(r"([^()]{1,256})\((.*)\)", re.DOTALL)
_RESULT = re.compile(r"^\d+\. (.+)\n +(https?://\S+)(?:\n +(.+))?$", re.MULTILINE)
_FAILURES: Mapping[ToolStatus, str] = {"denied": "max_uses_exceeded"}


def use_block(call_id: str, name: str) -> Json:
    """Without its input, which a stream tells after it."""
    kind = _SEARCH if name == _SEARCH else _PROGRAM
    return {"type": "server_tool_use", "id": MARK + call_id, "name": kind, "input": {}}


def use_input(name: str, arguments: str) -> Json:
    """`arguments` as far as the client may see them."""
    return read_input(arguments) if name == _SEARCH else {"code": f"{name}({arguments})"}


def read_use(block: Json) -> tuple[str, str]:
    """The name and the arguments of a call of ours."""
    match block:
        case {"name": "code_execution", "input": {"code": str(code)}} if line := _LINE.fullmatch(
            code
        ):
            return line[1], line[2] or "{}"
        case {"input": dict() as given}:
            return _text(block, "name"), dump(given).decode()
        case _:
            return _text(block, "name"), "{}"


def result_block(name: str, result: ToolCallResult) -> Json:
    ok = result.status == "ok"
    if name == _SEARCH and (content := _search_result(result)) is not None:
        return {
            "type": "web_search_tool_result",
            "tool_use_id": MARK + result.call_id,
            "content": content,
        }
    return {
        "type": "code_execution_tool_result",
        "tool_use_id": MARK + result.call_id,
        "content": {
            "type": "code_execution_result",
            "stdout": result.output if ok else "",
            "stderr": "" if ok else result.output or result.status,
            "return_code": 0 if ok else 1,
            "content": [],
        },
    }


def read_result(block: Json) -> str | None:
    """What a tool of ours returned, as far as the client was shown it; None for nothing."""
    match block.get("content"):
        case {"type": "code_execution_result", **fields}:
            said = [fields.get("stdout"), fields.get("stderr")]
            return "\n".join(text for text in said if isinstance(text, str) and text) or None
        case {"error_code": str(code)}:
            return f"The search failed: {code}."
        case list(results):
            return _tell(row for row in results if isinstance(row, dict)) or None
        case _:
            return None


def _search_result(result: ToolCallResult) -> object:
    """None where the text of a search does not say which pages it found."""
    if result.status != "ok":
        code = _FAILURES.get(result.status, "unavailable")
        return {"type": "web_search_tool_result_error", "error_code": code}
    return _found(result.output) or (None if result.output else [])


def _found(output: str) -> list[Json]:
    """The pages in a tool's text, or in the JSON of one that a provider ran. What a page said stands
    where Anthropic has it encrypted: a client shows it to nobody and sends it back."""
    try:
        rows = orjson.loads(output)
    except orjson.JSONDecodeError:
        return [_page(*match) for match in _RESULT.findall(output)]
    return [
        _page(title, url, "")
        for title, url in ((_text(row, "title"), _text(row, "url")) for row in _objects(rows))
        if url
    ]


def _page(title: str, url: str, excerpt: str) -> Json:
    return {
        "type": "web_search_result",
        "title": title,
        "url": url,
        "encrypted_content": excerpt,
        "page_age": None,
    }


def _tell(pages: Iterable[Json]) -> str:
    lines = []
    for number, page in enumerate(pages, 1):
        lines.append(f"{number}. {_text(page, 'title')}\n   {_text(page, 'url')}")
        if excerpt := _text(page, "encrypted_content"):
            lines.append(f"   {excerpt}")
    return "\n".join(lines)


def _objects(value: object) -> list[Json]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _text(row: Json, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
