"""JSON for a schema: what the demo model writes as arguments of a tool or as a structured answer.

Values come from the text where it offers plausible ones, and are made up where it does not; either
way the result fits the schema. Keywords that no API accepts in such schemas (`not`, `if`, …) are
not read.

A schema is a stranger's: what it asks for is metered, and its patterns are run only by an engine that
takes linear time. Else one request could stop the whole gateway.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic_core import SchemaError, SchemaValidator, core_schema

Schema: TypeAlias = Mapping[str, object]

MAX_DEPTH = 12
"""Where a schema that refers to itself is brought to an end."""
MAX_ITEMS = 1_000
MAX_VALUES = 2_000
MAX_WORK = 200_000
"""Steps and characters that one value may take."""
MAX_LENGTH = 100_000
MAX_PATTERN = 200
"""Characters of a pattern that is looked at."""
MAX_MATCH = 1_000
"""Characters of a text that is made for a pattern."""
MAX_HINTS = 100

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,18}(?:,\d{3}){0,6}(?:\.\d{1,18})?(?!\w)")
_QUOTED = re.compile(r"[\"“«]([^\"”»]{1,200})[\"”»]|(?<!\w)['‘]([^'’]{1,200})['’](?!\w)")
_NAMES = re.compile(r"[A-ZÅÄÖØÆÉ][\w'’\-]*(?:\s+(?:[A-ZÅÄÖØÆÉ][\w'’\-]*))*")
_PLACE = re.compile(r"\b(?:in|at|near|from|to|for)\s+(?=[A-ZÅÄÖØÆÉ])")
_EMAIL = re.compile(r"(?<![\w.+\-])[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")
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
    are left out unless the text speaks of them. Raises `TooMuch`."""
    root = schema if isinstance(schema, Mapping) else {}
    return _Filler(root, _Hints.of(text, answer), every).value(schema, "", 0)


class TooMuch(ValueError):
    """The schema asks for more than a demo should write."""

    def __init__(self) -> None:
        super().__init__("The schema asks for more than the demo model can write.")


@dataclass(slots=True)
class _Hints:
    """What a text offers, each thing used once before anything is used twice."""

    text: str
    answer: str
    folded: str
    spoken: frozenset[str]
    denies: bool
    emails: list[str]
    urls: list[str]
    days: list[str]
    total: float | None
    """The last number of the answer."""
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
        totals = _numbers(answer)
        return cls(
            text=text,
            answer=answer,
            folded=text.casefold(),
            spoken=_words(text),
            denies=_NO.search(text) is not None,
            emails=_EMAIL.findall(text)[:MAX_HINTS],
            urls=_URL.findall(text)[:MAX_HINTS],
            days=(_ISO_DATE.findall(text) or _DAY.findall(text))[:MAX_HINTS],
            total=totals[-1] if totals else None,
            quoted=quoted[:MAX_HINTS],
            names=names[:MAX_HINTS],
            places=places[:MAX_HINTS],
            numbers=_numbers(text)[:MAX_HINTS],
        )

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
            return self.take(self.emails) or _FORMATS["email"]
        if words & {"url", "uri", "link", "href", "website"}:
            return self.take(self.urls) or _FORMATS["uri"]
        if words & {"date", "day", "when", "deadline"}:
            return self.take(self.days) or _FORMATS["date"]
        return None

    def number(self, words: frozenset[str]) -> float | None:
        if words & _ANSWER_NAMES and self.total is not None:
            return self.total
        return self.numbers.pop(0) if self.numbers else None

    def mentions(self, value: object) -> bool:
        """Whether a text stands in ours as words of their own."""
        sought = value.casefold() if isinstance(value, str) else ""
        start = self.folded.find(sought) if sought else -1
        while start >= 0:
            end = start + len(sought)
            if not _WORDLIKE.search(
                self.folded[max(start - 1, 0) : start] + self.folded[end : end + 1]
            ):
                return True
            start = self.folded.find(sought, start + 1)
        return False


class _Filler:
    def __init__(self, root: Schema, hints: _Hints, every: bool) -> None:
        self._root = root
        self._hints = hints
        self._every = every
        self._made = 0
        self._work = 0

    def value(self, given: object, name: str, depth: int) -> object:
        self._made += 1
        self._spend(5 + len(name))
        if depth > 3 * MAX_DEPTH:
            return None  # it demands itself without end: nothing can fit
        schema = self._resolve(given)
        if "const" in schema:
            return schema["const"]
        if options := _list(schema.get("enum")):
            return next((one for one in options if self._mentioned(one)), options[0])
        match self._kind(schema, depth):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number" as kind:
                return self._number(schema, name, whole=kind == "integer")
            case "boolean":
                return not self._hints.denies
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _resolve(self, given: object) -> Schema:
        """The schema with references followed, and one branch taken where there are several."""
        schema: dict[str, object] = dict(given) if isinstance(given, Mapping) else {}
        self._spend(1 + len(schema))
        for _ in range(MAX_DEPTH):
            if isinstance(reference := schema.pop("$ref", None), str):
                schema = self._merge(self._find(reference), schema)
            elif parts := _list(schema.pop("allOf", None)):
                for part in parts:
                    schema = self._merge(schema, part if isinstance(part, Mapping) else {})
            elif branches := _list(schema.get("anyOf")) or _list(schema.get("oneOf")):
                rest = {key: item for key, item in schema.items() if key not in ("anyOf", "oneOf")}
                schema = self._merge(rest, self._branch(branches))
            else:
                break
        return schema

    def _merge(self, one: Schema, other: Schema) -> dict[str, object]:
        """Both at once: members and requirements add up, of the rest the second counts."""
        merged = {**one, **other}
        first, second = one.get("properties"), other.get("properties")
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            merged["properties"] = {**first, **second}
            self._spend(len(first) + len(second))
        if required := [*_names(one.get("required")), *_names(other.get("required"))]:
            merged["required"] = required
        self._spend(1 + len(merged) + len(required))
        return merged

    def _spend(self, amount: int) -> None:
        self._work += amount
        if self._work > MAX_WORK:
            raise TooMuch

    def _mentioned(self, value: object) -> bool:
        self._spend(1)
        if isinstance(value, str) and value:
            self._spend(len(value) + self._hints.folded.count(value[0].casefold()) // 10)
        return self._hints.mentions(value)

    def _branch(self, branches: Sequence[object]) -> Schema:
        self._spend(len(branches))
        known = [branch for branch in branches if isinstance(branch, Mapping)]
        for branch in known:
            if any(self._mentioned(one) for one in _list(branch.get("enum"))):
                return branch
        return next((branch for branch in known if branch.get("type") != "null"), {"type": "null"})

    def _find(self, reference: str) -> Schema:
        self._spend(len(reference))
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
        required = _names(schema.get("required"))
        self._spend(len(properties) + len(required))
        made: dict[str, object] = {}
        for key, part in properties.items():
            if key in required or self._wanted(key, part, depth):
                made[key] = self._member(part, key, depth)
        extra = schema.get("additionalProperties", {})
        for key in required:
            if key not in made:
                made[key] = self.value(extra, key, depth + 1)
        number = 0
        while len(made) < min(_whole(schema.get("minProperties"), 0), MAX_ITEMS):
            number += 1
            made.setdefault(f"key_{number}", self.value(extra, "", depth + 1))
        return made

    def _wanted(self, key: str, part: object, depth: int) -> bool:
        if self._is_deep(part, depth):
            return False
        if self._every:
            return True
        self._spend(len(key))
        words = _words(key)
        if words & self._hints.spoken or (words & _PLACE_NAMES and self._hints.places):
            return True
        return any(self._mentioned(one) for one in _list(self._resolve(part).get("enum")))

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
        self._spend(len(branches))
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
        number = 1
        for item in items:
            while item in made:
                self._spend(1 + len(made) // 10)
                number += 1
                if options:
                    item = options.pop(0)
                elif isinstance(item, str):
                    item = f"{item} {number}"
                elif isinstance(item, int | float) and not isinstance(item, bool):
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
        if isinstance(step, int | float) and step > 0 and math.isfinite(number / step):
            number = math.floor(number / step) * step
            if low is not None and number < low:
                number += step
        elif whole and number != int(number):
            number = float(math.ceil(number) if high is None else math.floor(number))
        if not math.isfinite(number):
            return 0
        return int(number) if whole or number == int(number) else number

    def _string(self, schema: Schema, name: str) -> str:
        if isinstance(pattern := schema.get("pattern"), str):
            self._spend(MAX_MATCH)
            return _matching(
                pattern, self._hints.string(_words(name)), _whole(schema.get("minLength"), 0)
            )
        if isinstance(kind := schema.get("format"), str) and kind in _FORMATS:
            return self._formatted(kind)
        made = self._hints.string(_words(name))
        fewest = min(_whole(schema.get("minLength"), 0), MAX_LENGTH)
        if len(made) < fewest:
            made += " demo" * math.ceil((fewest - len(made)) / 5)
        made = made[: max(_whole(schema.get("maxLength"), 2_000), 0)]
        self._spend(len(made))
        return made

    def _formatted(self, kind: str) -> str:
        found: Sequence[str] = ()
        if kind in ("email", "idn-email"):
            found = self._hints.emails
        elif kind in ("uri", "url", "iri"):
            found = self._hints.urls
        elif kind == "date":
            found = _ISO_DATE.findall(self._hints.text)
        return self._hints.take(found) or _FORMATS[kind]


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _names(value: object) -> dict[str, None]:
    """In their order, each once."""
    return dict.fromkeys(one for one in _list(value) if isinstance(one, str))


def _words(name: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in _WORDS.findall(name))


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text)]


_WORDLIKE = re.compile(r"\w")


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


def _matching(pattern: str, own: str, fewest: int) -> str:
    """A text that matches: the own one if it does, else one built from the pattern's parts."""
    expression = _expression(pattern)
    if expression is None:  # a pattern of another dialect, or one that only a machine would write
        return own
    if len(own) <= 200 and len(own) >= fewest and expression.isinstance_python(own):
        return own
    for extra in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        made = _Pattern(pattern, extra).text()
        if len(made) >= fewest and expression.isinstance_python(made):
            return made
    return own


def _expression(pattern: str) -> SchemaValidator | None:
    """Not `re`: there are patterns that it never comes to an end with."""
    repeated = math.prod(int(number) for number in _REPEATED.findall(pattern[:MAX_PATTERN]))
    if len(pattern) > MAX_PATTERN or repeated > MAX_MATCH:
        return None
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


_REPEATED = re.compile(r"(?<=[{,])0*([1-9]\d{0,8})(?=[,}])")


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
            made += atom * min(self._times(), MAX_MATCH // max(len(atom), 1))
        return made[:MAX_MATCH]

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
        expression = _expression(f"^{body}$")
        if expression is None:
            return "a"
        return next((char for char in _CANDIDATES if expression.isinstance_python(char)), "a")


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
