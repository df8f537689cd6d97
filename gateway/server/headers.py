"""A request's headers, decoded once: a call looks a dozen of them up."""

from collections.abc import Mapping

from starlette.types import Scope


def read_headers(scope: Scope) -> Mapping[str, str]:
    """By their names in small letters. Of several with one name, the first counts."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in reversed(scope["headers"])
    }
