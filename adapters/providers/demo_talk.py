"""What the demo model says where no tool has a part in it: greetings, memories, stories, help."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from adapters.providers.demo_needs import MAX_TEXT
from adapters.providers.demo_turn import Turn

MAX_WORDS = 5_000
"""Of prose that is asked for by length."""


def talk(turn: Turn, choice: int) -> str:
    said = turn.said.strip()
    looked = said[-MAX_TEXT:]
    if turn.images or turn.files:
        return _attached(turn)
    for pattern, reply in _TALK:
        if (match := pattern.search(looked)) and (text := reply(match, turn)):
            return text
    if not said:
        return f"You said nothing yet. {_HELP}"
    return f"{_pick(_DEFAULTS, looked, choice)} You said: “{cut(said, 200)}”. {_HELP}"


_HELP = (
    "Ask me what time it is in Oslo and Tokyo, what 15% of 80 is, or to search for something; offer me "
    "tools of your own and I call them; ask for JSON and I follow your schema; say “count to 20”, "
    "“tell me a story” or “write 500 words” to see me stream."
)
_DEFAULTS = (
    "I am the demo model that comes with Sluice, a script rather than a mind.",
    "This is Sluice's embedded demo model: no account, no network, and not much wit.",
    "I only play a language model, so that you can see the gateway at work.",
)


def _pick(options: Sequence[str], seed: str, choice: int) -> str:
    start = hashlib.sha256(seed.encode("utf-8", "replace")).digest()[0]
    return options[(start + choice) % len(options)]


def _attached(turn: Turn) -> str:
    counts = ((turn.images, "image"), (turn.files, "file"))
    seen = " and ".join(f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count)
    asked = f" You asked: “{cut(turn.said.strip(), 200)}”." if turn.said.strip() else ""
    return (
        f"I see {seen}, which reached me whole.{asked} As a demo I cannot look inside; a real "
        "vision model behind this gateway would."
    )


def _greet(match: re.Match[str], turn: Turn) -> str:
    return f"Hello! {_DEFAULTS[0]} {_HELP}"


def _thank(match: re.Match[str], turn: Turn) -> str:
    return "You are welcome!"


def _say(match: re.Match[str], turn: Turn) -> str:
    text = match["what"].strip()
    lead, colon, rest = text.partition(":")
    if colon and rest.strip() and len(lead.split()) <= 5:
        text = rest.strip()
    quoted = re.fullmatch(r"[\"'“‘](.*?)[\"'”’][.!]?", text, re.S)
    return quoted[1] if quoted else text


def _recall(match: re.Match[str], turn: Turn) -> str:
    if not turn.before:
        return "That was the first thing you said to me: nothing came before it."
    if "first" in match[0].casefold():
        return f"The first thing you said was: “{cut(turn.before[0], 300)}”"
    return f"Before that you said: “{cut(turn.before[-1], 300)}”"


def _recall_answer(match: re.Match[str], turn: Turn) -> str:
    if not turn.answered:
        return "I have not said anything before this."
    return f"I said: “{cut(turn.answered[-1], 300)}”"


def _summarise(match: re.Match[str], turn: Turn) -> str:
    if not turn.before:
        return ""
    lines = [f"{number}. “{cut(text, 100)}”" for number, text in enumerate(turn.before[-20:], 1)]
    return "So far you said:\n" + "\n".join(lines)


def _name(match: re.Match[str], turn: Turn) -> str:
    for text in reversed(turn.before):
        if found := _MY_NAME.search(text[-MAX_TEXT:]):
            return f"Your name is {found[1].strip()}."
    return "You have not told me your name yet. Say “my name is Ada” and ask again."


def _meet(match: re.Match[str], turn: Turn) -> str:
    return f"Nice to meet you, {match[1].strip()}! Ask me for your name later, I will remember."


def _count(match: re.Match[str], turn: Turn) -> str:
    first = int(match["first"] or 1)
    last = min(int(match["last"]), first + 1_000)
    return ", ".join(str(number) for number in range(first, last + 1)) + "."


def _length(match: re.Match[str], turn: Turn) -> str:
    return prose(max(1, min(int(match["words"].replace(",", "")), MAX_WORDS)), turn.said)


def _story(match: re.Match[str], turn: Turn) -> str:
    return _STORY


def _poem(match: re.Match[str], turn: Turn) -> str:
    return "The gate lifts an inch;\nword after word the stream runs\nand nothing is lost."


def _joke(match: re.Match[str], turn: Turn) -> str:
    return "Why did the token cross the gateway? It was only passing through."


def _markdown(match: re.Match[str], turn: Turn) -> str:
    return _MARKDOWN


def _introduce(match: re.Match[str], turn: Turn) -> str:
    return f"{_DEFAULTS[0]} {_HELP}"


_MY_NAME = re.compile(r"\b(?i:my name is|call me)\s+([A-ZÀ-Þ][\w'’\-]*(?: [A-ZÀ-Þ][\w'’\-]*)?)")
_TALK = (
    (re.compile(r"what(?:'s|’s| is| was) my name", re.I), _name),
    (_MY_NAME, _meet),
    (
        re.compile(
            r"\bwhat (?:did|have) i (?:just )?(?:say|said|ask|asked|tell|told|write|written)\b.*|"
            r"\bwhat was (?:my|the) (?:first|last|previous)\b.*|\bwhat was the first thing i\b.*|"
            r"\b(?:do you )?remember what i\b.*|\brepeat what i said\b.*",
            re.I | re.S,
        ),
        _recall,
    ),
    (
        re.compile(r"\bwhat did you (?:just )?say\b|\brepeat (?:that|yourself)\b", re.I),
        _recall_answer,
    ),
    (re.compile(r"\bsummari[sz]e (?:our|this|the) (?:conversation|chat)\b", re.I), _summarise),
    (
        re.compile(
            r"^(?:please\s+)?(?:say|repeat(?: after me)?|echo|(?:reply|respond|answer)(?: only)? with)\b"
            r"(?: exactly| only| just| the words?)*\s*:?\s*(?P<what>\S.*)",
            re.I | re.S,
        ),
        _say,
    ),
    (
        re.compile(r"\bcount (?:from (?P<first>\d{1,6}) )?(?:up )?to (?P<last>\d{1,7})", re.I),
        _count,
    ),
    (re.compile(r"\b(?P<words>\d[\d,]{0,6})[ -]words?\b", re.I), _length),
    (re.compile(r"\b(?:tell|write|give).*\bstory\b|^story\b", re.I), _story),
    (re.compile(r"\b(?:poem|haiku|verse|limerick)\b", re.I), _poem),
    (re.compile(r"\bjoke\b", re.I), _joke),
    (
        re.compile(r"\b(?:show|write|give|example|sample)\b.*\b(?:markdown|code|table)\b", re.I),
        _markdown,
    ),
    (re.compile(r"^(?:many )?thank(?:s| you)\b", re.I), _thank),
    (
        re.compile(
            r"^(?:hi|hello|hey|hallo|hei|hola|yo|greetings|good (?:morning|afternoon|evening|day))\b"
            r"(?:\W+\w+){0,4}\W*$",
            re.I,
        ),
        _greet,
    ),
    (
        re.compile(
            r"^/?help\b|\bwhat can (?:you|i) (?:do|ask)\b|\bwho are you\b|\bwhat are you\b|"
            r"\bhow do(?:es)? (?:you|this) work\b|\bwhat is sluice\b",
            re.I,
        ),
        _introduce,
    ),
)

_STORY = (
    "Once there was a keeper of a small gate on a wide canal. Boats came from the hills with words for "
    "the towns below, and every boat was to pass at once, for the towns were waiting.\n\n"
    "One spring the snow melted in a single night. The keeper heard the water before he saw it, and "
    "had to choose: shut the gate and keep his meadow dry, or open it and let the boats through.\n\n"
    "He opened it by a hand's breadth, no more. The water sang through the gap, the boats went down "
    "one by one, and he wrote each of them in his book: when it came, whose it was, what it carried.\n\n"
    "In the morning the towns had all their words, the meadow was dry, and not a line was missing "
    "from the book."
)
_MARKDOWN = """Here is a little of everything:

## A gate in five lines

```python
def sluice(water, width):
    for drop in water:
        if width > 0:
            yield drop
```

| gate | width | flow |
|------|------:|-----:|
| open | 10 | 100 % |
| ajar | 1 | 10 % |
| shut | 0 | 0 % |

- **bold**, *italic* and `code`
- a [link](https://example.com/) that leads nowhere in particular
"""

_SUBJECTS = ("The keeper", "A boat", "The water", "The old gate", "Every word", "The evening wind")
_VERBS = ("passes", "waits beside", "remembers", "follows", "carries", "watches", "never leaves")
_OBJECTS = (
    "the canal",
    "the quiet lock",
    "the towns below",
    "a line in the book",
    "the low meadow",
)
_ENDS = (
    "at dawn",
    "without a sound",
    "once more",
    "as it always did",
    "before the rain",
    "in order",
)


def _sentences(seed: str) -> Iterator[str]:
    """Words without end. A small generator of our own, the same on every Python."""
    state = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "replace")).digest()[:8], "big")
    while True:
        parts = []
        for options in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            parts.append(options[(state >> 33) % len(options)])
        yield from f"{' '.join(parts)}.".split()


def prose(words: int, seed: str) -> str:
    """That many words of plain sentences, the same for the same seed."""
    return " ".join(islice(_sentences(seed[-MAX_TEXT:]), words))


def cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size].rstrip()}…"
