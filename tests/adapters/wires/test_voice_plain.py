"""What of a text is spoken, however it was cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wires.voice.plain import PlainSpeech

TEXTS = {
    "prose": ("Hello. How can I help?", "Hello. How can I help?"),
    "bold": ("It is **very** _nice_ and ***so*** on.", "It is very nice and so on."),
    "bold_at_the_start": ("**Total:** 5", "Total: 5"),
    "bold_at_the_end": ("This is **it**", "This is it"),
    "signs": ("2 * 3 is 6, 2*3 too, and ~5.", "2 * 3 is 6, 2*3 too, and ~5."),
    "names": ("Call snake_case_name now", "Call snake_case_name now"),
    "struck": ("~~Five~~ six", "Five six"),
    "headings": ("# Title\n\n## Part #2\nText", "Title\nPart #2\nText"),
    "hash": ("We are #1 and #best", "We are #1 and #best"),
    "bullets": ("Two:\n- one\n* two\n+ three\n• four", "Two:\none\ntwo\nthree\nfour"),
    "nested_bullets": ("- **one**: a\n  - two", "one: a\ntwo"),
    "boxes": ("- [ ] open\n- [x] done", "open\ndone"),
    "numbers": ("1. First\n2. Second", "1. First\n2. Second"),
    "minus": ("-5 degrees", "-5 degrees"),
    "minus_on_a_line": ("Cold:\n-5 degrees", "Cold:\n-5 degrees"),
    "quote": ("> Said\n>> again", "Said\nagain"),
    "rule": ("One\n\n---\n\nTwo\n***\nThree", "One\nTwo\nThree"),
    "inline_code": ("Run `ls -l` or ``a`b`` now", "Run ls -l or ab now"),
    "block": ("Look:\n```python\nx = 1\n\n```\nDone.", "Look:\nDone."),
    "block_with_ticks": ("````\n```\nx\n```\n````\nDone.", "Done."),
    "tilde_block": ("~~~\n```\n~~~\nDone.", "Done."),
    "indented_block": ("- See\n  ```sh\n  ls\n  ```\nDone.", "See\nDone."),
    "block_without_end": ("Look:\n```\nx = 1", "Look:\n"),
    "ticks_in_a_block": ("```\na ``` b\n```x\n``` \nDone", "Done"),
    "link": ("See [the page](https://x.example/a_(b)) now.", "See the page now."),
    "bold_link": ("**[Page](https://x.example)**: good", "Page: good"),
    "picture": ("A ![small map](https://x.example/m.png) here!", "A small map here!"),
    "footnotes": ("So it is[1], or not[^2].", "So it is, or not."),
    "brackets": ("He said [sic] so, [2024] too", "He said sic so, 2024 too"),
    "address": ("See https://x.example/a?b=c. Then go.", "See . Then go."),
    "address_in_brackets": ("Our site (https://x.example) has it.", "Our site has it."),
    "address_in_angles": ("Our site <https://x.example> has it.", "Our site has it."),
    "address_at_the_end": ("See www.x.example", "See "),
    "addresses": ("http://a.example, HTTPS://b.example!", ", !"),
    "no_address": ("The www. and http. How? What", "The  and http. How? What"),
    "brackets_with_text": ("It (why not) is (here) so", "It (why not) is (here) so"),
    "mail": ("Write to ada@x.example", "Write to ada@x.example"),
    "flush": ("One moment. <flush /> And", "One moment. <flush /> And"),
    "table": (
        "Prices:\n| Item | Price |\n|------|:-----:|\n| Tea | **5** |\n\nThat is all.",
        "Prices:\nItem, Price\nTea, 5\nThat is all.",
    ),
    "bar": ("this | that", "this | that"),
    "escapes": (r"5 \* 3 \_ and \n", r"5 * 3 _ and \n"),
    "gaps": ("One.  Two.\n\n\n\nThree.", "One. Two.\nThree."),
    "unicode": ("Ça va? **日本語** 😀 `x`", "Ça va? 日本語 😀 x"),
    "only_marks": ("**", ""),
    "unclosed": ("a [b", "a b"),
    "unclosed_target": ("a [b](https://x\nNext", "a b\nNext"),
    "empty": ("", ""),
}
TEXTS["no_address"] = ("The wwww. and http. How? What", "The wwww. and http. How? What")


def _speak(*parts: str) -> str:
    plain = PlainSpeech()
    return "".join([*map(plain.feed, parts), plain.close()])


@pytest.mark.parametrize(("text", "spoken"), TEXTS.values(), ids=TEXTS)
def test_what_is_spoken(text: str, spoken: str) -> None:
    assert _speak(text) == spoken


@pytest.mark.parametrize(("text", "spoken"), TEXTS.values(), ids=TEXTS)
def test_it_is_the_same_wherever_the_text_was_cut(text: str, spoken: str) -> None:
    for cut in range(len(text) + 1):
        assert _speak(text[:cut], text[cut:]) == spoken
    assert _speak(*text) == spoken


@given(st.text("ab1 \n#*_`~[]()<>|!.-\\hwtps:/", max_size=80), st.data())
def test_no_text_is_read_otherwise_for_being_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)))
    parts = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    assert _speak(*parts) == _speak(text)


@given(st.text(max_size=200))
def test_words_are_never_held_back_for_long(text: str) -> None:
    plain = PlainSpeech()
    spoken = plain.feed(text + " and so it goes on for a while")
    code = "```" in text or "~~~" in text or "](" in text
    assert code or spoken.endswith(" on for a while")


def test_prose_is_passed_on_as_it_comes() -> None:
    plain = PlainSpeech()
    tokens = ["Sure", ", ", "let ", "me ", "check", ". ", "One", " mo", "ment", "."]
    assert [plain.feed(token) for token in tokens] == tokens
