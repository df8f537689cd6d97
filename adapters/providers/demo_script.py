"""What the demo model says and decides: a pure function from a request to a script.

It reads the conversation, works out which tools would help and were not called yet, and otherwise
puts into words what is known. No randomness: what varies, varies with the text (docs/demo.md).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from adapters.providers.demo_json import TooMuch, fill
from adapters.providers.demo_needs import MAX_TEXT, Need, clauses, needs, places
from adapters.providers.demo_talk import cut, talk
from adapters.providers.demo_turn import Done, Turn, canonical, parsed, read
from gateway.errors import InvalidRequest
from gateway.events import Json
from gateway.request import ChatRequest

MAX_CALLS = 8
"""Of one round."""


@dataclass(frozen=True, slots=True)
class Source:
    """A page that the text refers to, and where in the text it does."""

    url: str
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PlannedCall:
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Script:
    """One choice of an answer: calls of tools, or a text, or a refusal."""

    reasoning: str = ""
    text: str = ""
    refusal: str = ""
    sources: tuple[Source, ...] = ()
    calls: tuple[PlannedCall, ...] = ()


@dataclass(frozen=True, slots=True)
class _Offer:
    """The functions that may be called in this round."""

    tools: Mapping[str, Json] = field(default_factory=dict)
    forced: bool = False
    """A call has to be made, of any of them."""
    named: bool = False
    """Only one of them is meant."""

    def takes(self, name: str, argument: str) -> bool:
        """Whether there is a tool of that name which understands that argument."""
        return name in self.tools and argument in _properties(self.tools[name])


def write(request: ChatRequest) -> Sequence[Script]:
    """What the demo answers, or does first: a script for each choice. Raises `InvalidRequest` for a
    schema that asks for too much."""
    turn = read(request.messages)
    count = max(request.n, 1)
    if _REFUSE.search(turn.said.strip()[:MAX_TEXT]):
        return [Script(reasoning="I was told to refuse, so I do.", refusal=_REFUSAL)] * count
    offer = _offer(request)
    wanted = needs(turn.said)
    try:
        calls = _plan(turn, offer, wanted, request.options.get("parallel_tool_calls") is not False)
    except TooMuch as error:
        raise InvalidRequest(str(error), param="tools") from error
    if calls:
        names = ", ".join(dict.fromkeys(call.name for call in calls))
        # The thoughts of the next round follow these on the same wire.
        return [Script(reasoning=f"I need tools for this: {names}.\n", calls=calls)] * count
    answers = [_answer(turn, offer, wanted, choice) for choice in range(count)]
    shape = request.options.get("response_format")
    if isinstance(shape, Mapping) and shape.get("type") in ("json_object", "json_schema"):
        try:
            text = _json(shape, turn, answers[0][0])
        except TooMuch as error:
            raise InvalidRequest(str(error), param="response_format") from error
        return [Script("The answer has to be JSON, so I fill in its form.", text)] * count
    reasoning = "I have what I need and put it into words." if turn.done else _thought(turn)
    return [Script(reasoning, text, sources=sources) for text, sources in answers]


_REFUSE = re.compile(
    r"^\s*(?:please|now|you must|you should|just|simply)?\s*refuse\b|\brefuse\s+(?:to|this|my|me)\b",
    re.I,
)
_REFUSAL = (
    "I'm sorry, but I can't help with that. You asked me to refuse, and this is how it looks."
)


def _offer(request: ChatRequest) -> _Offer:
    tools: dict[str, Json] = {}
    for tool in request.tools:
        function = tool.get("function")
        if isinstance(function, Mapping) and isinstance(name := function.get("name"), str):
            tools[name] = function
    choice = request.options.get("tool_choice")
    if not isinstance(choice, Mapping):
        return _Offer({} if choice == "none" else tools, forced=choice == "required")
    if isinstance(allowed := choice.get("allowed_tools"), Mapping):
        rows = allowed.get("tools")
        names = {_function_name(row) for row in (rows if isinstance(rows, list | tuple) else ())}
        kept = {name: tool for name, tool in tools.items() if name in names}
        return _Offer(kept, forced=allowed.get("mode") == "required")
    name = _function_name(choice)
    return _Offer(
        {key: tool for key, tool in tools.items() if key == name}, forced=True, named=True
    )


def _function_name(row: object) -> str:
    if not isinstance(row, Mapping):
        return ""
    function = row.get("function")
    return str(function.get("name") if isinstance(function, Mapping) else row.get("name"))


def _properties(function: Json) -> Mapping[str, object]:
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


_ARGUMENT = {"current_time": "timezone", "calculator": "expression", "web_search": "query"}


def _plan(
    turn: Turn, offer: _Offer, wanted: Sequence[Need], parallel: bool
) -> tuple[PlannedCall, ...]:
    """The calls to make now: of what helps, all that was not called in this turn yet."""
    if offer.forced and turn.called:
        # It was made to call one, which it has: to be made to again would never end.
        return ()
    called = {name for name, _ in turn.called}
    calls = list(_for_needs(offer, wanted))
    calls += [call for call in _for_words(turn, offer, wanted) if call.name not in called]
    if {*called, *(call.name for call in calls)} - {*_ARGUMENT}:
        # A tool made for the matter is better than a search that merely might bring it.
        guesses = {need.argument for need in wanted if not need.explicit}
        calls = [
            call
            for call in calls
            if not (call.name == "web_search" and parsed(call.arguments).get("query") in guesses)
        ]
    if offer.forced and not calls:
        calls = [_forced(turn, offer)] if offer.tools else []
    new = [
        call for call in calls if (call.name, canonical(parsed(call.arguments))) not in turn.called
    ]
    return tuple(new[: MAX_CALLS if parallel else 1])


def _for_needs(offer: _Offer, wanted: Sequence[Need]) -> Iterator[PlannedCall]:
    for need in wanted:
        argument = _ARGUMENT[need.tool]
        if offer.takes(need.tool, argument):
            arguments = {argument: need.argument} if need.argument else {}
            yield PlannedCall(need.tool, json.dumps(arguments, ensure_ascii=False))


def _for_words(turn: Turn, offer: _Offer, wanted: Sequence[Need]) -> Iterator[PlannedCall]:
    """Calls of tools whose name or description speaks of what the user speaks of."""
    met = {need.tool for need in wanted}
    spoken = _stems(turn.said[-MAX_TEXT:])
    scores: dict[str, int] = {}
    for name, function in offer.tools.items():
        if name in _ARGUMENT and (offer.takes(name, _ARGUMENT[name]) or name in met):
            continue
        score = _Meaning.of(name, function).score(spoken)
        if score >= 2:
            scores[name] = score
    best = max(scores.values(), default=0)
    for name in [name for name, score in scores.items() if 2 * score >= best][:4]:
        yield from _filled(name, offer.tools[name], turn)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a function is for, by the words of its name and description."""

    name: frozenset[str]
    about: frozenset[str]

    @classmethod
    def of(cls, name: str, function: Json) -> "_Meaning":
        own = _stems(name)
        about = _stems(str(function.get("description") or "")[:MAX_TEXT])
        return cls((own - _DULL) or own, about - _DULL - own)

    def score(self, spoken: frozenset[str]) -> int:
        return 2 * len(self.name & spoken) + len(self.about & spoken)


def _filled(name: str, function: Json, turn: Turn) -> Iterator[PlannedCall]:
    """A call with arguments from the text: one for each place, where there are several."""
    said = turn.said[-MAX_TEXT:]
    value = fill(function.get("parameters"), said, every=False)
    arguments = dict(value) if isinstance(value, Mapping) else {}
    where = next((key for key in _properties(function) if key.casefold() in _PLACE), None)
    if where is None or not isinstance(arguments.get(where, ""), str):
        yield PlannedCall(name, json.dumps(arguments, ensure_ascii=False))
        return
    # A place that another question of the same text is about is not meant.
    meaning = _Meaning.of(name, function)
    asked = [one for one in clauses(said) if meaning.score(_stems(one))]
    lines = asked or [_first_line(said)]
    named = [place for line in lines for place in places(line) if place[0].isupper()]
    if len(named) == 1:
        value = fill(function.get("parameters"), ". ".join(lines), every=False)
        named = [str(value[where])] if isinstance(value, Mapping) and where in value else []
    for each in [{**arguments, where: place} for place in dict.fromkeys(named)] or [arguments]:
        yield PlannedCall(name, json.dumps(each, ensure_ascii=False))


def _forced(turn: Turn, offer: _Offer) -> PlannedCall:
    name = next(iter(offer.tools))
    argument = _ARGUMENT.get(name)
    if name == "current_time" and offer.takes(name, "timezone"):
        return PlannedCall(name, "{}")
    if argument == "expression" and offer.takes(name, "expression"):
        return PlannedCall(name, json.dumps({argument: "6 * 7"}))
    return next(_filled(name, offer.tools[name], turn))


_PLACE = frozenset({"city", "location", "place", "timezone", "town"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_a-zA-Z]+")
# Words that are in the name or description of any tool, and in any question.
_DULL = frozenset(
    re.findall(
        r"\w+",
        "a about all an and any api are as at be by can create current data do doe find for from "
        "function get give given have how i in information into is it list make me my name of on or "
        "please return run set show tell text that the thi this to tool up update use user value "
        "what when which will with you your",
    )
)


def _stems(text: str) -> frozenset[str]:
    return frozenset(word.casefold().removesuffix("s") for word in _WORD.findall(text))


def _first_line(text: str) -> str:
    return re.split(r"[?!\n]|\.\s", text.strip(), maxsplit=1)[0]


@dataclass(slots=True)
class _Page:
    """A text being written, with its sources."""

    text: str = ""
    sources: list[Source] = field(default_factory=list)

    def add(self, text: str, *, between: str = " ") -> None:
        self.text += (between if self.text else "") + text

    def cite(self, url: str, title: str, start: int) -> None:
        self.sources.append(Source(url, title, start, len(self.text)))


def _answer(
    turn: Turn, offer: _Offer, wanted: Sequence[Need], choice: int
) -> tuple[str, tuple[Source, ...]]:
    page = _Page()
    for one in turn.done:
        match one.name:
            case "current_time" if "time" in (clock := parsed(one.output)):
                page.add(_time(one, clock))
            case "calculator" if _VALUE.fullmatch(one.output.strip()):
                page.add(f"{one.arguments.get('expression')} = {one.output.strip()}.")
            case "web_search" if _RESULT.search(one.output):
                _found(page, one)
            case _:
                page.add(_told(one), between="\n\n" if "\n" in one.output else " ")
    names = {one.name for one in turn.done} | {name for name, _ in turn.called}
    for tool in dict.fromkeys(need.tool for need in wanted):
        covered = tool in names or (names - set(_ARGUMENT) and tool == "web_search")
        if not covered and not offer.takes(tool, _ARGUMENT[tool]):
            page.add(_MISSING[tool], between="\n\n")
    if not page.text:
        page.add(talk(turn, choice))
    elif choice:
        lead = _LEADS[choice % len(_LEADS)]
        page.sources = [
            Source(one.url, one.title, one.start + len(lead), one.end + len(lead))
            for one in page.sources
        ]
        page.text = lead + page.text
    return page.text, tuple(page.sources)


_VALUE = re.compile(r"-?\d[\d.]*(?:e[+-]?\d+)?")
_RESULT = re.compile(r"^(\d+)\. (.+)\n {3}(https?://\S+)(?:\n {3}(.+))?", re.M)
_LEADS = ("", "In other words: ", "Put differently: ", "Once more: ", "To say it again: ")
_MISSING: Mapping[str, str] = {
    "current_time": "I have no clock here: the tool current_time is not offered in this request.",
    "calculator": (
        "I would rather not guess sums: the tool calculator is not offered in this request."
    ),
    "web_search": (
        "For that I would search the web, which is not switched on. Set SLUICE_SEARXNG_URL to a "
        "SearxNG server or SLUICE_BRAVE_API_KEY to a key of the Brave Search API, and restart."
    ),
}


def _time(one: Done, clock: Mapping[str, object]) -> str:
    zone = str(clock.get("timezone", ""))
    place = str(one.arguments.get("timezone") or "")
    try:
        moment = datetime.fromisoformat(str(clock["time"]))
    except ValueError:
        return _told(one)
    day = f"{moment:%A}, {moment.day} {moment:%B} {moment.year}"
    where = f"In {place} it" if place and place != zone else "It"
    offset = str(clock.get("utc_offset", ""))
    detail = zone if zone in ("UTC", "GMT") or zone.startswith("UTC") else f"{zone}, UTC{offset}"
    return f"{where} is {moment:%H:%M} on {day} ({detail})."


def _found(page: _Page, one: Done) -> None:
    page.add(f"Here is what the web says about “{one.arguments.get('query')}”:", between="\n\n")
    for number, title, url, snippet in islice(_RESULT.findall(one.output), 3):
        label = title.replace("[", "(").replace("]", ")")
        page.add(f"{number}. ", between="\n\n" if number == "1" else "\n")
        start = len(page.text)
        page.text += f"[{label}]({url.replace(')', '%29')})"
        page.text += f": {snippet}" if snippet else ""
        page.cite(url, title, start)
    page.add(
        "These are excerpts by others: open the sources before you rely on them.", between="\n\n"
    )


def _told(one: Done) -> str:
    """The result of a tool that nothing here knows, or one that failed."""
    output = one.output.strip()
    value = parsed(output) if output.startswith("{") else {}
    about = ", ".join(text for text in one.arguments.values() if isinstance(text, str))
    name = f"{one.name} ({cut(about, 100)})" if about else one.name
    if not output:
        return f"{name} gave no result."
    if one.name in _ATTEMPTS or _FAILED.match(output) or set(value) == {"error"}:
        failure = _ATTEMPTS.get(one.name, "{name} did not work").format(name=name, about=about)
        return f"{failure}: {cut(str(value.get('error', output)), 500)}"
    if value:
        facts = (f"{key.replace('_', ' ')}: {_brief(item)}" for key, item in value.items())
        return f"{name} says: {cut(', '.join(facts), 2_000)}."
    return f"{name} says: {cut(output, 2_000)}"


_FAILED = re.compile(
    r"(?:the tool |tool )?(?:error|fail(?:ed|ure)|denied|timed? ?out|cancelled)\b", re.I
)
_ATTEMPTS: Mapping[str, str] = {
    "current_time": "I could not tell the time in {about}",
    "calculator": "I could not work out {about}",
    "web_search": "The search for “{about}” did not help",
}


def _brief(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _thought(turn: Turn) -> str:
    if turn.images or turn.files:
        return "Something is attached; I say what came with it."
    if not turn.said.strip():
        return "There is no question here, so I introduce myself."
    return "No tool is needed for this, so I answer right away."


def _json(shape: Json, turn: Turn, text: str) -> str:
    said = turn.said[-MAX_TEXT:]
    if shape.get("type") == "json_object":
        return json.dumps({"answer": text, "question": said}, ensure_ascii=False)
    form = shape.get("json_schema")
    schema = form.get("schema") if isinstance(form, Mapping) else None
    return json.dumps(fill(schema, said, text), ensure_ascii=False)
