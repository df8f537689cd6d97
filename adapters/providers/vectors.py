"""OpenAI's answer to a request for embeddings, as all who speak its language give it."""

import orjson

from gateway.events import Usage
from gateway.records import Embeddings


def read_vectors(data: bytes) -> Embeddings | None:
    """None for anything else than vectors, one for each input and told in any order."""
    try:
        body: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict) or not isinstance(rows := body.get("data"), list):
        return None
    vectors: dict[int, list[float] | str] = {}
    for place, row in enumerate(rows):
        match row:
            case {"embedding": str() | list() as vector}:
                index = row.get("index")
                vectors[index if isinstance(index, int) else place] = vector
            case _:
                return None
    if vectors.keys() != set(range(len(rows))):
        return None
    return Embeddings([vectors[place] for place in range(len(rows))], _usage(body.get("usage")))


def _usage(told: object) -> Usage | None:
    match told:
        case {"prompt_tokens": int() as tokens}:
            return Usage(input_tokens=tokens)
        case _:
            return None
