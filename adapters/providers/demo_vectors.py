"""The demo's embeddings: texts that share words are near each other. Nothing is learned here."""

import hashlib
import math
import re
from collections.abc import Sequence

WIDTH = 256
"""Numbers in a vector, where a request does not say."""


def place(text: Sequence[int] | str, width: int) -> list[float]:
    """A vector of length 1, the same for the same words whatever their order."""
    words = re.findall(r"\w+", text.lower()) if isinstance(text, str) else list(map(str, text))
    vector = [0.0] * width
    for word in words or [""]:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=16).digest()
        # Some coordinates a word: two that share one are still told apart by the others.
        for start in range(0, 16, 4):
            number = int.from_bytes(digest[start : start + 4])
            vector[number // 2 % width] += 1.0 if number % 2 else -1.0
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return [number / length for number in vector]
