"""JSON for a schema: what the demo model writes as arguments of a tool or as a structured answer.

Values come from the text where it offers plausible ones, and are made up where it does not; either
way the result fits the schema. Keywords that no API accepts in such schemas (`not`, `if`, …) are
not read.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Schema: TypeAlias = Mapping[str, object]

MAX_DEPTH = 12
"""Where a schema that refers to itself is brought to an end."""
MAX_ITEMS = 1_000
MAX_VALUES = 2_000

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]*\w)")
_QUOTED = re.compile(r"[\"“«]([^\"”»]{1,200})[\"”»]|(?<!\w)['‘]([^'’]{1,200})['’](?!\w)")
_NAMES = re.compile(r"[A-ZÅÄÖØÆÉ][\w'’\-]*(?:\s+(?:[A-ZÅÄÖØÆÉ][\w'’\-]*))*")
_PLACE = re.compile(r"\b(?:in|at|near|from|to|for)\s+(?=[A-ZÅÄÖØÆÉ])")
_EMAIL = re.compile(r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")
_URL = re.compile(r"https?://[^\s<>\"')]+")
_ISO_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_DAY = re.compile(
    r"\b(?:today|tomorrow|tonight|yesterday|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b", re.I
)
_NO = re.compile(r"\b(?:no|not|never|false|off|without|don't|do not)\b", re.I)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# A capital letter at the start of a sentence makes no name of these.
_COMMON = _set(
    "a an and are ask book can call calculate check compute could create do does draft email extract "
    "find for get give hello hey hi how i i'm i'd i'll if in is it list look make my name open "
    "order play please remind say schedule search send set show tell the then there this to turn "
    "use was we weather what what's when where which who will with would write you"
)
_TEXT_NAMES = _set("query q question text input message content prompt body topic")
_ANSWER_NAMES = _set(
    "answer explanation final message output reasoning reply response result summary text thought "
    "total value sum"
)
_PLACE_NAMES = _set(
    "address area city country destination location origin place region timezone town zone"
)
_FORMATS: Mapping[str, str] = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "hostname": "example.com",
    "idn-email": "ada@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "iri": "https://example.com/",
    "json-pointer": "/demo",
    "regex": ".*",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uri-reference": "/demo",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def fill(schema: object, text: str, answer: str = "", *, every: bool = True) -> object:
    """A value that fits. `answer` is what would be said in prose; without `every`, optional members
    are left out unless the text speaks of them."""
    root = schema if isinstance(schema, Mapping) else {}
    return _Filler(root, _Hints.of(text, answer), every).value(schema, "", 0)


@dataclass(slots=True)
class _Hints:
    """What a text offers, each thing used once before anything is used twice."""

    text: str
    answer: str
    quoted: list[str]
    names: list[str]
    places: list[str]
    numbers: list[float]
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, text: str, answer: str) -> "_Hints":
        quoted = [one or other for one, other in _QUOTED.findall(text)]
        names = []
        for match in _NAMES.finditer(text):
            words = match[0].split()
            while words and words[0].casefold().strip("'’") in _COMMON:
                del words[0]
            if words and not _DAY.fullmatch(words[-1]):
                names.append(" ".join(words).rstrip("'’"))
        places = []
        for start in _PLACE.finditer(text):
            if found := _NAMES.match(text, start.end()):
                places.append(found[0])
        numbers = [float(number.replace(",", "")) for number in _NUMBER.findall(text)]
        return cls(text, answer, quoted, names, places, numbers)

    def take(self, offered: Sequence[str]) -> str | None:
        """The first that was not used yet, else the last that there is."""
        for one in offered:
            if one not in self.used:
                self.used.add(one)
                return one
        return offered[-1] if offered else None

    def string(self, words: frozenset[str]) -> str:
        """What suits a member by the words of its name."""
        text = self.text.strip()
        special = self._special(words)
        if special is not None:
            return special
        if self.answer and words & _ANSWER_NAMES:
            return self.answer
        if words & _PLACE_NAMES:
            return self.take(self.places or self.names) or "Oslo"
        if words & _TEXT_NAMES:
            return self.take(self.quoted) or text or "demo"
        return self.take(self.quoted) or self.take(self.names) or self.answer or text or "demo"

    def _special(self, words: frozenset[str]) -> str | None:
        if "email" in words or "mail" in words:
            return self.take(_EMAIL.findall(self.text)) or _FORMATS["email"]
        if words & {"url", "uri", "link", "href", "website"}:
            return self.take(_URL.findall(self.text)) or _FORMATS["uri"]
        if words & {"date", "day", "when", "deadline"}:
            found = _ISO_DATE.findall(self.text) or _DAY.findall(self.text)
            return self.take(found) or _FORMATS["date"]
        return None

    def number(self, words: frozenset[str]) -> float | None:
        if words & _ANSWER_NAMES and (found := _NUMBER.findall(self.answer)):
            return float(found[-1].replace(",", ""))
        return self.numbers.pop(0) if self.numbers else None

    def speaks_of(self, words: frozenset[str], values: Sequence[object] = ()) -> bool:
        spoken = _words(self.text)
        return bool(words & spoken) or any(self.mentions(value) for value in values)

    def mentions(self, value: object) -> bool:
        return isinstance(value, str) and bool(
            value and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", self.text, re.I)
        )


class _Filler:
    def __init__(self, root: Schema, hints: _Hints, every: bool) -> None:
        self._root = root
        self._hints = hints
        self._every = every
        self._made = 0

    def value(self, given: object, name: str, depth: int) -> object:
        self._made += 1
        if depth > 3 * MAX_DEPTH:
            return None  # it demands itself without end: nothing can fit
        schema = self._resolve(given)
        if "const" in schema:
            return schema["const"]
        if options := _list(schema.get("enum")):
            return next((one for one in options if self._hints.mentions(one)), options[0])
        match self._kind(schema, depth):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number" as kind:
                return self._number(schema, name, whole=kind == "integer")
            case "boolean":
                return not _NO.search(self._hints.text)
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _resolve(self, given: object) -> Schema:
        """The schema with references followed, and one branch taken where there are several."""
        schema: dict[str, object] = dict(given) if isinstance(given, Mapping) else {}
        for _ in range(MAX_DEPTH):
            if isinstance(reference := schema.pop("$ref", None), str):
                schema = _merge(self._find(reference), schema)
            elif parts := _list(schema.pop("allOf", None)):
                for part in parts:
                    schema = _merge(schema, part if isinstance(part, Mapping) else {})
            elif branches := _list(schema.get("anyOf")) or _list(schema.get("oneOf")):
                rest = {key: item for key, item in schema.items() if key not in ("anyOf", "oneOf")}
                schema = _merge(rest, self._branch(branches))
            else:
                break
        return schema

    def _branch(self, branches: Sequence[object]) -> Schema:
        known = [branch for branch in branches if isinstance(branch, Mapping)]
        for branch in known:
            if any(self._hints.mentions(one) for one in _list(branch.get("enum"))):
                return branch
        return next((branch for branch in known if branch.get("type") != "null"), {"type": "null"})

    def _find(self, reference: str) -> Schema:
        target: object = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if part and isinstance(target, Mapping):
                target = target.get(part)
        return target if isinstance(target, Mapping) else {}

    def _kind(self, schema: Schema, depth: int) -> object:
        kind = schema.get("type")
        if kinds := _list(kind):
            if depth > MAX_DEPTH and "null" in kinds:
                return "null"
            return next((one for one in kinds if one != "null"), "null")
        if kind is None:
            if "properties" in schema or "required" in schema or "additionalProperties" in schema:
                return "object"
            if "items" in schema or "prefixItems" in schema:
                return "array"
            if any(key in schema for key in ("minimum", "maximum", "multipleOf")):
                return "number"
        return kind

    def _object(self, schema: Schema, depth: int) -> Mapping[str, object]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = [key for key in _list(schema.get("required")) if isinstance(key, str)]
        made: dict[str, object] = {}
        for key, part in properties.items():
            if key in required or self._wanted(key, part, depth):
                made[key] = self._member(part, key, depth)
        extra = schema.get("additionalProperties", {})
        for key in required:
            if key not in made:
                made[key] = self.value(extra, key, depth + 1)
        number = 0
        while len(made) < _whole(schema.get("minProperties"), 0):
            number += 1
            made.setdefault(f"key_{number}", self.value(extra, "", depth + 1))
        return made

    def _wanted(self, key: str, part: object, depth: int) -> bool:
        if self._is_deep(part, depth):
            return False
        if self._every:
            return True
        schema = self._resolve(part)
        words = _words(key)
        place = bool(words & _PLACE_NAMES) and bool(self._hints.places)
        return place or self._hints.speaks_of(words, _list(schema.get("enum")))

    def _member(self, part: object, key: str, depth: int) -> object:
        # A schema that contains itself has a way to end: null, or an empty list.
        if isinstance(part, Mapping) and self._is_deep(part, depth):
            branches = [*_list(part.get("anyOf")), *_list(part.get("oneOf"))]
            kinds = [branch.get("type") for branch in branches if isinstance(branch, Mapping)]
            if "null" in (*kinds, *_list(part.get("type"))):
                return None
        return self.value(part, key, depth + 1)

    def _is_deep(self, part: object, depth: int) -> bool:
        """Whether it is time to come to an end, sooner where a schema refers to another."""
        if self._made > MAX_VALUES:
            return True
        branches: Sequence[object] = (part,)
        if isinstance(part, Mapping):
            branches = (part, *_list(part.get("anyOf")), *_list(part.get("oneOf")))
        refers = any(isinstance(branch, Mapping) and "$ref" in branch for branch in branches)
        return depth >= (MAX_DEPTH // 4 if refers else MAX_DEPTH // 2)

    def _array(self, schema: Schema, name: str, depth: int) -> Sequence[object]:
        fewest = _whole(schema.get("minItems"), 0)
        most = _whole(schema.get("maxItems"), MAX_ITEMS)
        items = schema.get("items", {})
        made = [self.value(part, name, depth + 1) for part in _list(schema.get("prefixItems"))]
        if items is False:
            return made
        wanted = fewest if self._is_deep(items, depth) else 1
        if _plain_strings(self._resolve(items)) and not made:
            made.extend(list(dict.fromkeys(self._hints.names))[: max(fewest, min(most, 5))])
        wanted = max(fewest, min(wanted, most, 5))
        while len(made) < min(wanted, MAX_ITEMS):
            made.append(self.value(items, _singular(name), depth + 1))
        if schema.get("uniqueItems") is True:
            made = self._distinct(made, self._resolve(items))
        return made

    def _distinct(self, items: Sequence[object], schema: Schema) -> list[object]:
        made: list[object] = []
        options = [*_list(schema.get("enum"))]
        for item in items:
            number = 1
            while item in made:
                number += 1
                if options:
                    item = options.pop(0)
                elif isinstance(item, str):
                    item = f"{item} {number}"
                elif isinstance(item, int | float):
                    item = item + 1
                else:
                    break
            made.append(item)
        return made

    def _number(self, schema: Schema, name: str, *, whole: bool) -> float:
        low = _bound(schema, "minimum", "exclusiveMinimum", whole=whole)
        high = _bound(schema, "maximum", "exclusiveMaximum", whole=whole)
        found = self._hints.number(_words(name))
        number = found if found is not None else (low if low is not None else 1.0)
        if low is not None:
            number = max(number, low)
        if high is not None:
            number = min(number, high)
        step = schema.get("multipleOf")
        if isinstance(step, int | float) and step > 0:
            number = math.floor(number / step) * step
            if low is not None and number < low:
                number += step
        elif whole and number != int(number):
            number = float(math.ceil(number) if high is None else math.floor(number))
        return int(number) if whole or number == int(number) else number

    def _string(self, schema: Schema, name: str) -> str:
        if isinstance(pattern := schema.get("pattern"), str):
            fewest = _whole(schema.get("minLength"), 0)
            own = self._hints.string(_words(name))
            return _matching(pattern, own, fewest)
        if isinstance(kind := schema.get("format"), str) and kind in _FORMATS:
            return self._formatted(kind)
        made = self._hints.string(_words(name))
        fewest, most = _whole(schema.get("minLength"), 0), _whole(schema.get("maxLength"), 2_000)
        while len(made) < min(fewest, 100_000):
            made = f"{made} demo".lstrip()
        return made[:most]

    def _formatted(self, kind: str) -> str:
        found: Sequence[str] = ()
        if kind in ("email", "idn-email"):
            found = _EMAIL.findall(self._hints.text)
        elif kind in ("uri", "url", "iri"):
            found = _URL.findall(self._hints.text)
        elif kind == "date":
            found = _ISO_DATE.findall(self._hints.text)
        return self._hints.take(found) or _FORMATS[kind]


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _words(name: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in _WORDS.findall(name))


def _singular(name: str) -> str:
    return name.removesuffix("s")


def _plain_strings(schema: Schema) -> bool:
    return schema.get("type") == "string" and not {"enum", "const", "format", "pattern"} & {*schema}


def _whole(value: object, default: int) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _bound(schema: Schema, closed: str, open_: str, *, whole: bool) -> float | None:
    limit, beyond = schema.get(closed), schema.get(open_)
    sign = 1 if closed == "minimum" else -1
    found = [float(limit)] if isinstance(limit, int | float) else []
    if isinstance(beyond, int | float) and not isinstance(beyond, bool):
        found.append(beyond + sign * (1.0 if whole else max(abs(beyond), 1.0) * 1e-6))
    if not found:
        return None
    tightest = max(found) if sign > 0 else min(found)
    return float(math.ceil(tightest) if sign > 0 else math.floor(tightest)) if whole else tightest


def _merge(one: Schema, other: Schema) -> dict[str, object]:
    """Both at once: members and requirements add up, of the rest the second counts."""
    merged = {**one, **other}
    first, second = one.get("properties"), other.get("properties")
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        merged["properties"] = {**first, **second}
    if required := [*_list(one.get("required")), *_list(other.get("required"))]:
        merged["required"] = list(dict.fromkeys(required))
    return merged


def _matching(pattern: str, own: str, fewest: int) -> str:
    """A text that matches: the own one if it does, else one built from the pattern's parts."""
    try:
        expression = re.compile(pattern)
    except re.error:  # a pattern of another dialect
        return own
    if len(own) <= 200 and len(own) >= fewest and expression.search(own):
        return own
    for extra in range(fewest + 2):
        made = _Pattern(pattern, extra).text()
        if len(made) >= fewest and expression.search(made):
            return made
    return own


class _Pattern:
    """The simplest text for a regular expression: first alternatives, fewest repetitions.

    `extra` repetitions are added where they are allowed, to reach a length.
    """

    def __init__(self, pattern: str, extra: int) -> None:
        self._pattern = pattern
        self._position = 0
        self._extra = extra

    def text(self) -> str:
        made = self._sequence()
        while self._next() == "|":
            self._position += 1
            self._sequence()
        return made

    def _next(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _sequence(self) -> str:
        made = ""
        while self._next() not in ("", "|", ")"):
            atom = self._atom()
            made += atom * self._times()
        return made

    def _times(self) -> int:
        fewest, most = 1, 1
        if match := _REPEAT.match(self._pattern, self._position):
            self._position = match.end()
            match match[0][0]:
                case "?":
                    fewest = 0
                case "*":
                    fewest, most = 0, 1_000
                case "+":
                    most = 1_000
                case _:
                    fewest = int(match["low"])
                    most = fewest
                    if match["comma"]:
                        most = int(match["high"] or fewest + 1_000)
        return min(most, fewest + self._extra)

    def _atom(self) -> str:
        char = self._next()
        self._position += 1
        match char:
            case "^" | "$":
                return ""
            case ".":
                return "a"
            case "\\":
                escaped = self._next()
                self._position += 1
                return _ESCAPES.get(escaped, escaped)
            case "[":
                return self._class()
            case "(":
                return self._group()
            case _:
                return char

    def _group(self) -> str:
        opening = _OPENING.match(self._pattern, self._position)
        looks = opening is not None and opening[0] in ("?=", "?!", "?<=", "?<!")
        if opening:
            self._position = opening.end()
        made = self.text()
        self._position += 1
        return "" if looks else made

    def _class(self) -> str:
        end = self._position + 1 + (self._next() == "^")
        while end < len(self._pattern) and self._pattern[end] != "]":
            end += 2 if self._pattern[end] == "\\" else 1
        body = self._pattern[self._position - 1 : end + 1]
        self._position = end + 1
        return next((char for char in _CANDIDATES if re.fullmatch(body, char)), "a")


_REPEAT = re.compile(r"(?:[?*+]|\{(?P<low>\d{1,4})(?P<comma>,(?P<high>\d{1,4})?)?\})[?+]?")
_OPENING = re.compile(r"\?(?::|=|!|<=|<!|P?<\w+>)")
_ESCAPES: Mapping[str, str] = {"d": "1", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"} | {
    "b": "",
    "B": "",
    "t": "\t",
    "n": "\n",
    "r": "\r",
    "A": "",
    "Z": "",
}
_CANDIDATES = (
    "abcdefghijklmnopqrstuvwxyz1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ-_ .,:;/+*@#%&=!?()[]{}<>|~'\"\\"
)
