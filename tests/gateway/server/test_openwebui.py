"""What is believed of Open WebUI's headers, and what becomes of its chores."""

import base64
import hashlib
import hmac
import json
import time

import pytest

from gateway.request import ChatRequest
from gateway.server.openwebui import adapt, verify
from gateway.server.settings import TierRow
from tests.samples import a_request

TRUSTED = TierRow(trust=True)
SIGNED = TierRow(trust=True, jwt_secret="hush")
HEADERS = {
    "x-openwebui-user-name": "Ada%20L%C3%B3velace",
    "x-openwebui-user-id": "u-1",
    "x-openwebui-user-email": "ada@example.com",
    "x-openwebui-user-role": "user",
    "x-openwebui-chat-id": "chat-1",
    "x-openwebui-task": "",
}
TITLE = (
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n"
    '### Output:\nJSON format: { "title": "…" }\n'
    "### Chat History:\n<chat_history>\nUSER: Hi\n</chat_history>"
)


def chore(**fields: object) -> ChatRequest:
    messages = [{"role": "user", "content": TITLE}]
    return a_request(**{"messages": messages, "stream": False, **fields})


def token(claims: dict[str, object], secret: str = "hush", alg: str = "HS256") -> str:
    """As PyJWT writes it."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": alg, "typ": "JWT"}, claims)
    ]
    signature = hmac.digest(secret.encode(), ".".join(parts).encode(), hashlib.sha256)
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in HEADERS.items() if name not in names}


def test_a_trusted_key_says_who_asks_and_in_which_chat() -> None:
    request = adapt(a_request(), HEADERS, TRUSTED)
    assert (request.user, request.conversation, request.task) == ("ada@example.com", "chat-1", None)


@pytest.mark.parametrize("tier", [None, TierRow()], ids=["no row", "no trust"])
def test_other_keys_are_not_believed(tier: TierRow | None) -> None:
    asked = a_request()
    assert adapt(asked, {**HEADERS, "x-openwebui-task": "title_generation"}, tier) is asked


@pytest.mark.parametrize(
    ("missing", "user"),
    [
        (["x-openwebui-user-email"], "u-1"),
        (["x-openwebui-user-email", "x-openwebui-user-id"], "Ada Lóvelace"),
        ([name for name in HEADERS if "user" in name], None),
    ],
    ids=["id", "name", "nobody"],
)
def test_the_next_best_name_is_taken(missing: list[str], user: str | None) -> None:
    assert adapt(a_request(), without(*missing), TRUSTED).user == user


@pytest.mark.parametrize("chat", ["temporary:1", "local:1", "channel:1", "", "  "])
def test_chats_that_are_not_kept_are_not_kept_here(chat: str) -> None:
    request = adapt(a_request(), {**HEADERS, "x-openwebui-chat-id": chat}, TRUSTED)
    assert request.conversation is None


def test_what_the_body_names_stands_before_the_chat() -> None:
    assert adapt(a_request(conversation="mine"), HEADERS, TRUSTED).conversation == "mine"


def test_a_chore_is_done_beside_the_chat_by_another_model() -> None:
    tier = TierRow(trust=True, task_model="small")
    asked = a_request(
        tools=[{"type": "function", "function": {"name": "f"}}],
        options={"tool_choice": "auto", "max_tokens": 1000},
        conversation="mine",
        store=True,
    )
    request = adapt(asked, {**HEADERS, "x-openwebui-task": "title_generation"}, tier)
    assert request.task == "title_generation"
    assert request.model == "small"
    assert request.user == "ada@example.com"
    assert (request.conversation, request.previous, request.store) == (None, None, False)
    assert (request.tools, request.options) == ((), {"max_tokens": 1000})


@pytest.mark.parametrize("tier", [None, TierRow(), TRUSTED], ids=["no row", "no trust", "trust"])
def test_a_chore_is_known_by_its_words_where_no_header_tells(tier: TierRow | None) -> None:
    request = adapt(chore(), {}, tier)
    assert request.task == "task"
    assert request.model == "m"


USUAL = {
    "with documents, streamed": chore(stream=True),
    "a longer chat": chore(messages=[{"role": "user", "content": TITLE}] * 2),
    "with a system's words": chore(
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": TITLE}]
    ),
    "from the system": chore(messages=[{"role": "system", "content": TITLE}]),
    "with documents": chore(
        messages=[
            {
                "role": "user",
                "content": "### Task:\nRespond to the user query using the provided context, "
                "incorporating inline citations.\n<context>\nTides.\n</context>\nWhen?",
            }
        ]
    ),
    "other words": chore(messages=[{"role": "user", "content": "## Task: do it"}]),
    "parts": chore(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]),
}


@pytest.mark.parametrize("request_", USUAL.values(), ids=USUAL)
def test_other_requests_are_no_chores(request_: ChatRequest) -> None:
    assert adapt(request_, {}, None).task is None


def test_an_empty_header_says_that_it_is_no_chore() -> None:
    assert adapt(chore(), HEADERS, TRUSTED).task is None


def test_a_signature_is_asked_for_where_there_is_a_secret() -> None:
    claims: dict[str, object] = {"email": "ada@example.com", "sub": "u-1", "exp": time.time() + 300}
    headers = {**HEADERS, "x-openwebui-user-email": "eve@example.com"}
    assert adapt(a_request(), headers, SIGNED).user is None
    headers["x-openwebui-user-jwt"] = token(claims)
    assert adapt(a_request(), headers, SIGNED).user == "ada@example.com"


TOKENS = {
    "another secret": token({"email": "a", "exp": time.time() + 300}, "other"),
    "another method": token({"email": "a", "exp": time.time() + 300}, alg="none"),
    "run out": token({"email": "a", "exp": time.time() - 1}),
    "for ever": token({"email": "a"}),
    "no parts": "x",
    "empty": "",
    "no base64": "é.é.é",
    "cut": token({"email": "a", "exp": time.time() + 300})[:-3],
}


@pytest.mark.parametrize("text", TOKENS.values(), ids=TOKENS)
def test_a_token_that_is_not_right_says_nothing(text: str) -> None:
    assert verify(text, "hush") == {}
