"""What Open WebUI says of a request beside its body: who asks, in which chat, and for which chore.

Its headers are as good as the key that comes with them: whoever has a key could write them. So they are
believed of keys that were given to an Open WebUI alone (`trust` of a tier).
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote

import orjson

from gateway.request import ChatRequest, Message
from gateway.server.settings import TierRow

_PREFIX = "x-openwebui-"
_UNSAVED = ("temporary:", "local:", "channel:")
"""How the ids of chats begin that Open WebUI does not keep either."""
_TASK = "### Task:"
"""How its chores begin, for installations that do not send the header."""
_ANSWER = "### Task:\nRespond to"
"""How a turn begins that is to be answered from documents: no chore, though it is worded as one."""
_UNNAMED = "task"
_CHOICES = frozenset({"tool_choice", "parallel_tool_calls"})
_LONGEST = 256


def adapt(request: ChatRequest, headers: Mapping[str, str], tier: TierRow | None) -> ChatRequest:
    """The request with the fields that the headers are about."""
    trusted = tier is not None and tier.trust
    task = _task(request, headers if trusted else {})
    if trusted:
        request = replace(request, user=_user(headers, tier) or request.user)
    if task is not None:
        # It has the id of the chat that it is about, and is no part of it.
        model = request.model if tier is None else tier.task_model or request.model
        options = {name: value for name, value in request.options.items() if name not in _CHOICES}
        return replace(
            request,
            task=task,
            model=model,
            tools=(),
            options=options,
            conversation=None,
            previous=None,
            store=False,
        )
    if trusted and request.conversation is None:
        return replace(request, conversation=_chat(headers))
    return request


def _task(request: ChatRequest, headers: Mapping[str, str]) -> str | None:
    told = headers.get(f"{_PREFIX}task")
    if told is not None:
        # Empty in an ordinary turn.
        return told.strip()[:_LONGEST] or None
    alone = not request.stream and len(request.messages) == 1 and not request.further
    return _UNNAMED if alone and _is_task(request.messages[0]) else None


def _is_task(message: Message) -> bool:
    match message:
        case {"role": "user", "content": str() as text}:
            return text.startswith(_TASK) and not text.startswith(_ANSWER)
        case _:
            return False


def _chat(headers: Mapping[str, str]) -> str | None:
    chat = _value(headers, "chat-id")
    return None if chat is None or chat.startswith(_UNSAVED) else chat


def _user(headers: Mapping[str, str], tier: TierRow | None) -> str | None:
    """The person's e-mail address, or what else there is; signed, where the tier has a secret."""
    if tier is not None and tier.jwt_secret is not None:
        claims = verify(headers.get(f"{_PREFIX}user-jwt", ""), tier.jwt_secret)
        named = [claims.get(name) for name in ("email", "sub", "name")]
        return next((value for value in named if isinstance(value, str) and value), None)
    name = _value(headers, "user-name")
    return (
        _value(headers, "user-email")
        or _value(headers, "user-id")
        or (None if name is None else unquote(name))
    )


def _value(headers: Mapping[str, str], name: str) -> str | None:
    return headers.get(_PREFIX + name, "").strip()[:_LONGEST] or None


def verify(token: str, secret: str) -> Mapping[str, object]:
    """The claims of a JSON web token with HS256, or none where it is not signed so, or has run out."""
    signed, _, signature = token.rpartition(".")
    head, _, body = signed.partition(".")
    try:
        wanted = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
        if not hmac.compare_digest(_decode(signature), wanted):
            return {}
        header, claims = orjson.loads(_decode(head)), orjson.loads(_decode(body))
    except (binascii.Error, ValueError):  # which JSON's error is
        return {}
    match header, claims:
        case {"alg": "HS256"}, {"exp": int() | float() as end} if end > time.time():
            return claims if isinstance(claims, dict) else {}
        case _:
            return {}


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
