"""What a text asks for that needs a tool: the time somewhere, a sum, a search of the web.

English only, and no more than a demo needs: a clause that nothing here recognises asks for nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_TEXT = 4_000
"""Of a text, no more is looked at: a demo need not read books, and patterns stay quick."""


@dataclass(frozen=True, slots=True)
class Need:
    """One call of a tool that would help. `argument` is the place, the sum or the query."""

    tool: str
    argument: str
    explicit: bool = True
    """Whether it was asked for in so many words, or only sounds like it."""


_CLAUSE_END = re.compile(
    r"[?;\n]+|(?<!\d)!+|\.(?=\s|$)|(?:,?\s+(?:and|then|also|plus)|,)\s+"
    r"(?=(?:and |then |also |please |can you )*"
    r"(?:what|search|look|google|find|calculate|compute|tell|how|who|when|weather|"
    r"the (?:latest|weather|time|news|current|square)|latest|news)\b)",
    re.I,
)


def needs(text: str) -> Sequence[Need]:
    """In the order in which they are asked for, none twice."""
    found: dict[tuple[str, str], Need] = {}
    for clause in clauses(text):
        for need in _of(clause):
            found.setdefault((need.tool, need.argument.casefold()), need)
    return tuple(found.values())


def clauses(text: str) -> Sequence[str]:
    """What is asked one after the other: "the time in Oslo, and what is 2+2?" are two."""
    return [clause.strip() for clause in _CLAUSE_END.split(text[-MAX_TEXT:])]


def _of(clause: str) -> Iterator[Need]:
    if query := _asked_search(clause):
        yield Need("web_search", query)
        return
    if _TIME.search(clause):
        for place in places(clause) or [""]:
            yield Need("current_time", place)
        return
    sums = list(_sums(clause))
    for one in sums:
        yield Need("calculator", one)
    if not sums and _NEWS.search(clause):
        yield Need("web_search", _POLITE.sub("", clause).strip(" ,:"), explicit=False)


_POLITE = re.compile(
    r"^(?:(?:please|hey|hi|hello|ok|so|and|then|now|also|can you|could you|would you|will you|"
    r"i want to know|i would like to know|tell me|show me|give me|do you know|what is|what's|"
    r"what are|whats|the|about)\b[\s,]*)+",
    re.I,
)
_SEARCH = re.compile(
    r"\b(?:search|google|look\s+up|look\s+for|browse|find\s+out|do\s+a\s+(?:web\s+)?search|"
    r"find\s+(?:me\s+)?(?:some\s+|any\s+|the\s+)?(?:information|info|news|articles?|pages?|sources?))\b"
    r"(?:\s+(?:the\s+)?(?:web|internet|net|online))?(?:\s+(?:for|about|on|of))?[\s:,]+(?P<query>.+)",
    re.I | re.S,
)
_NEWS = re.compile(
    r"\b(?:news|headlines|weather|forecast|tide times?|stock price|share price|exchange rate|who won|"
    r"what happened|(?:latest|current|recent|newest)\s+(?:version|release|price|score|results?|"
    r"events?|status))\b",
    re.I,
)


def _asked_search(clause: str) -> str | None:
    if not (match := _SEARCH.search(clause)):
        return None
    query = match["query"].strip().strip("\"'“”:,").strip()
    return query or None


_TIME = re.compile(
    r"\bwhat(?:'s|’s|s| is)?\s+(?:the\s+)?(?:current\s+|local\s+|exact\s+)?(?:time|date)\b(?!\s+(?:does|do|"
    r"did|will|was|should|of|complexity|zone))|\bwhat\s+(?:day|time)\s+is\s+(?:it|today)\b|\b(?:current|"
    r"local)\s+(?:time|date)\b|\btime\s+(?:is\s+it|now|right now)\b|^(?:the\s+)?time\s+(?:in|at)\b|"
    r"\btell\s+(?:me\s+)?the\s+time\b|\btoday's date\b|\bthe time\s+(?:in|at)\b|\bclock say",
    re.I,
)
_IN = re.compile(r"\b(?:in|at|for)\s+(?P<places>.+)$", re.I | re.S)
_NOT_A_PLACE = re.compile(
    r"\s*\b(?:right now|now|today|please|currently|at the moment|this moment|again|too|as well|"
    r"respectively)\b.*$",
    re.I | re.S,
)
_BETWEEN = re.compile(r"\s*,\s*(?:and\s+|or\s+)?|\s+(?:and|or|&|vs\.?|versus)\s+(?:in\s+)?", re.I)


def places(clause: str) -> Sequence[str]:
    """The places named after `in`: "in Oslo, Tokyo and New York" has three."""
    if not (match := _IN.search(clause)):
        return ()
    text = _NOT_A_PLACE.sub("", match["places"])
    found = (re.sub(r"^(?:the|in)\s+", "", part.strip(" .,:'\"")) for part in _BETWEEN.split(text))
    return [part for part in found if part and len(part) <= 40 and len(part.split()) <= 4][:8]


_UNITS = {
    word: number
    for number, word in enumerate(
        re.findall(
            r"\w+",
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
            "fifteen sixteen seventeen eighteen nineteen",
        )
    )
}
_TENS = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_NUMBER_WORD = "|".join((*_UNITS, *_TENS, *_SCALES))
_NUMBER_WORDS = re.compile(
    rf"\b(?:{_NUMBER_WORD})(?:(?:[\s-]+(?:and\s+)?)(?:{_NUMBER_WORD}))*\b", re.I
)

# Words of arithmetic as the calculator writes them. Left alone they mean nothing: an expression
# needs an operand on each side.
_SPOKEN = (
    (re.compile(r"\b(?:the\s+)?square\s+root\s+of\s+(\d[\d,.]*\d|\d)", re.I), r"sqrt(\1)"),
    (re.compile(r"\b(?:the\s+)?cube\s+root\s+of\s+(\d[\d,.]*\d|\d)", re.I), r"cbrt(\1)"),
    (re.compile(r"\b(?:the\s+)?factorial\s+of\s+(\d+)", re.I), r"factorial(\1)"),
    (re.compile(r"(\d)\s+factorial\b", re.I), r"\1!"),
    (re.compile(r"\bhalf\s+of\b", re.I), "0.5 *"),
    (re.compile(r"\b(?:the\s+)?sum\s+of\s+(\d[\d.]*)\s+and\s+(\d[\d.]*)", re.I), r"\1 + \2"),
    (re.compile(r"\b(?:the\s+)?product\s+of\s+(\d[\d.]*)\s+and\s+(\d[\d.]*)", re.I), r"\1 * \2"),
    (re.compile(r"\bper\s?cent\b", re.I), "%"),
    (re.compile(r"\s+%"), "%"),
    (re.compile(r"\b(?:multiplied\s+by|times)\b", re.I), "*"),
    (re.compile(r"\b(?:divided\s+by|over)\b", re.I), "/"),
    (re.compile(r"\b(?:raised\s+)?to\s+the\s+power\s+(?:of\s+)?", re.I), "^"),
    (re.compile(r"\bplus\b", re.I), "+"),
    (re.compile(r"\bminus\b", re.I), "-"),
    (re.compile(r"\s*\bsquared\b", re.I), "^2"),
    (re.compile(r"\s*\bcubed\b", re.I), "^3"),
    (re.compile(r"\bmodulo\b", re.I), "mod"),
    (re.compile(r"[$€£](?=\d)"), ""),
)
_TOKEN = re.compile(
    r"\b(?:sqrt|cbrt|sin|cos|tan|ln|log10|log2|log|abs|round|factorial|exp|pi|of|mod)\b|"
    r"(?:\d[\d,_]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+(?!\w))?|(?<=[\d\s)])x(?=[\s\d(])|"
    r"\*\*|//|[-+*/^×÷·−%!°√(),²³π]",
    re.I,
)
_OPERAND = re.compile(r"[\dπ)²³!%°]|pi$", re.I)
_LEADING = re.compile(r"^(?:of|mod|x|[*/^×÷·%!°),²³+])+")
_TRAILING = re.compile(
    r"(?:\b(?:of|mod|x|sqrt|cbrt|sin|cos|tan|ln|log10|log2|log|abs|round|"
    r"factorial|exp)|[-+*/^×÷·−√(,.])$",
    re.I,
)
_INTENT = re.compile(
    r"\b(?:what|whats|calculate|compute|evaluate|how much|how many|solve|work out|sum|result|equals?|"
    r"add|math|maths|arithmetic)\b|=",
    re.I,
)
_STRONG = re.compile(
    r"[*×÷·^√²³]|\d\s*x\s*\d|%\s*of\b|\b(?:sqrt|cbrt|sin|cos|tan|ln|log\w*|abs|round|factorial|exp|"
    r"mod)\b|\d!|\d\s*\+\s*\d",
    re.I,
)
_SCORE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{2,4}|\+?\d+(?:-\d+){2,}")


def _sums(clause: str) -> Iterator[str]:
    text = _NUMBER_WORDS.sub(lambda match: str(_spelled(match[0])), clause)
    for spoken, written in _SPOKEN:
        text = spoken.sub(written, text)
    asked = bool(_INTENT.search(clause))
    for run in _runs(text):
        only = len(run) >= 0.6 * len(text.strip(" ="))
        if not _SCORE.fullmatch(run) and (asked or only or _STRONG.search(run)):
            yield run


def _runs(text: str) -> Iterator[str]:
    """Stretches of the text that are expressions: numbers and at least one operation on them."""
    position = 0
    while match := _TOKEN.search(text, position):
        end = position = match.end()
        while following := _TOKEN.match(text, _skip(text, end)):
            end = position = following.end()
        run = _trim(text[match.start() : end])
        if run and re.search(r"\d|π|\bpi\b", run, re.I) and _operates(run):
            yield run


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t":
        position += 1
    return position


def _trim(run: str) -> str:
    before = None
    while run != before:
        before = run
        run = _TRAILING.sub("", _LEADING.sub("", run.strip())).strip(" ,")
        surplus = run.count("(") - run.count(")")
        if surplus > 0 and run.startswith("("):
            run = run[1:]
        elif surplus < 0 and run.endswith(")"):
            run = run[:-1]
    return run


def _operates(run: str) -> bool:
    tokens = [match[0].casefold() for match in _TOKEN.finditer(run)]
    if any(token[0].isalpha() and token not in ("of", "mod", "x", "pi") for token in tokens):
        return "(" in tokens
    for before, token, after in zip(tokens, tokens[1:], [*tokens[2:], ""], strict=False):
        if token in "!²³" or before == "√":
            return True
        joins = token in ("of", "mod", "x", "**", "//") or token in "+-−*/^×÷·%"
        if joins and _OPERAND.search(before) and (after[:1].isdigit() or after in _OPENERS):
            return True
    return False


_OPENERS = ("(", "√", "π", "pi", "-", "of", "sqrt")


def _spelled(words: str) -> int:
    total = current = 0
    for word in re.findall(r"[a-z]+", words.casefold()):
        if word in _UNITS or word in _TENS:
            current += _UNITS.get(word, _TENS.get(word, 0))
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in _SCALES:
            total += max(current, 1) * _SCALES[word]
            current = 0
    return total + current
