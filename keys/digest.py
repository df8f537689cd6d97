"""What is kept in place of a secret."""

import hashlib


def digest(secret: str) -> bytes:
    """The SHA-256 of a secret.

    No salt and no slow hash: those protect passwords, which can be guessed. A secret of 256 random
    bits cannot, at any speed, and no two are alike. A slow hash would only make every request slow.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
