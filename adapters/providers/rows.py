"""What is wrong with a provider's row in `sluice.yaml`, in one line that names the field."""

import difflib

from pydantic import BaseModel, ValidationError

_WORDS = {
    "missing": "missing",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "dict_type": "expected a mapping",
    "frozen_set_type": "expected a list",
    "path_type": "expected a path",
}
_NOT_OF_THE_ROW = {"connect_timeout"}
"""What every provider is told besides what its row has."""


def complain(error: ValidationError, row: type[BaseModel]) -> str:
    """Never the value: it may be a key, put in for its variable."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        words = f"no such setting{_hint(place, row)}"
    else:
        words = _WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ").replace(
            "Input should be", "expected"
        )
    return f"{place}: {words}" if place else words


def _hint(name: str, row: type[BaseModel]) -> str:
    known = sorted(row.model_fields.keys() - _NOT_OF_THE_ROW)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; expected one of {', '.join(known)}"
