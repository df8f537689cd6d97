"""The row `wires: {voice: …}` of `sluice.yaml`."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Sentence = Annotated[str, Field(min_length=1, max_length=500)]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    plain: bool = True
    """Take Markdown, addresses and code out of what is said."""
    apology: Sentence = "Sorry, something went wrong here. Could you say that again, please?"
    """What is said when an answer fails."""
    fillers: tuple[Sentence, ...] = ()
    """Sentences for silences, in turn."""
    filler_after: Annotated[float, Field(ge=0.3, le=30)] = 1.0
    """Seconds of silence before one."""
    tiers: tuple[str, ...] = ()
    """Whose keys speak on every path of chat completions, whatever their requests look like."""
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """What is asked for where a request names no model."""


def read(config: Mapping[str, object]) -> Options:
    """Raises `ValueError` in one line."""
    try:
        return Options.model_validate(config)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            known = ", ".join(Options.model_fields)
            raise ValueError(f"{place}: no such option; expected one of {known}") from None
        raise ValueError(f"{place}: {detail['msg']}") from None
