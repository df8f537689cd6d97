"""Thinking that a server leaves in the text of an answer, between `<think>` and `</think>`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from gateway.events import Complete, Delta, Event, ReasoningDelta, ToolCallStart

ThoughtsInText: TypeAlias = Literal["tagged", "begun"]
"""`begun`: the chat template has written the first tag, so that the answer begins behind it."""

_OPEN, _CLOSE = "<think>", "</think>"


class ThoughtSplitter:
    """Takes the thinking out of the text, however the tags were cut."""

    def __init__(self, how: ThoughtsInText) -> None:
        self._how = how
        self._texts: dict[int, _Text] = {}

    def split(self, events: Sequence[Event]) -> list[Event]:
        """The same events with the thinking as such. What may be a part of a tag waits for more."""
        kept: list[Event] = []
        for event in events:
            match event:
                case Delta():
                    self._text(event.choice).take(event, kept)
                case ToolCallStart():
                    self._text(event.choice).flush(kept)
                    kept.append(event)
                case Complete():
                    for text in self._texts.values():
                        text.flush(kept)
                    kept.append(event)
                case _:
                    kept.append(event)
        return kept

    def _text(self, choice: int) -> "_Text":
        if choice not in self._texts:
            self._texts[choice] = _Text(choice, begun=self._how == "begun")
        return self._texts[choice]


class _Text:
    """The text of one choice."""

    def __init__(self, choice: int, *, begun: bool) -> None:
        self._choice = choice
        self._place: Literal["before", "within", "behind", "after"] = (
            "within" if begun else "before"
        )
        self._held = ""

    def take(self, event: Delta, kept: list[Event]) -> None:
        if self._place == "after":
            kept.append(event)
            return
        text, self._held = self._held + event.text, ""
        if self._place == "before":
            begun = text.lstrip()
            if len(begun) < len(_OPEN) and _OPEN.startswith(begun):
                self._held = text
                return
            self._place = "within" if begun.startswith(_OPEN) else "after"
            text = begun.removeprefix(_OPEN) if self._place == "within" else text
        if self._place == "within":
            thought, close, text = text.partition(_CLOSE)
            if close:
                self._place = "behind"
            else:
                self._held = _unfinished(thought)
                thought = thought.removesuffix(self._held)
            if thought:
                kept.append(ReasoningDelta(thought, self._choice))
        if self._place == "behind" and (text := text.lstrip()):
            self._place = "after"
        if self._place == "after":
            # Odds belong to a whole token, which this may no longer be.
            whole = text == event.text
            kept.append(event if whole else replace(event, text=text, logprobs=None))

    def flush(self, kept: list[Event]) -> None:
        text, self._held = self._held, ""
        if text and self._place == "within":
            kept.append(ReasoningDelta(text, self._choice))
        elif text:
            kept.append(Delta(text, self._choice))


def _unfinished(text: str) -> str:
    """The end of the text that may be the beginning of the last tag."""
    for size in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if text.endswith(_CLOSE[:size]):
            return text[-size:]
    return ""
