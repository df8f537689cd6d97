"""What is wrong with a request, in the words of Anthropic's API: a place and what it should hold."""

from gateway.errors import InvalidRequest


def missing(place: str) -> InvalidRequest:
    return InvalidRequest(
        f"{place}: Field required", param=place, code="missing_required_parameter"
    )


def wrong(place: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{place}: Input should be {expected}", param=place, code="invalid_value")


def unsupported(place: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{place}: {what}", param=place, code="unsupported_parameter")


def string(owner: dict[str, object], name: str, place: str) -> str:
    if name not in owner:
        raise missing(f"{place}.{name}")
    value = owner[name]
    if not isinstance(value, str):
        raise wrong(f"{place}.{name}", "a valid string")
    return value
