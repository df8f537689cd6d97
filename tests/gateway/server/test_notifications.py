from collections.abc import Sequence

import pytest

from gateway.events import (
    Complete,
    Delta,
    Event,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.ports import Batch
from gateway.records import Detail
from gateway.server.interceptors.notifications import LONGEST, ToolFilter, scrub
from gateway.server.pipeline import sift
from tests.samples import drain, stream_of

CLIENTS: list[Event] = [
    ToolCallStart("c", "locate", "client"),
    ToolCallDelta("c", '{"key":"sk-Ab3defghijklmnop"}'),
    ToolCallReady("c", '{"key":"sk-Ab3defghijklmnop"}'),
]
OURS: list[Event] = [
    ToolCallStart("s", "look", "server"),
    ToolCallDelta("s", '{"q":"tides"}'),
    ToolCallReady("s", '{"q":"tides"}'),
    ToolCallProgress("s", "Half", 1, 2),
    ToolCallResult("s", "ok", "High at noon", 0.5),
]
PROVIDERS: list[Event] = [
    ToolCallStart("p", "search", "provider"),
    ToolCallReady("p", "{}"),
    ToolCallResult("p", "error", "Failed"),
]
TEXT: list[Event] = [Delta("Hi")]
END: list[Event] = [Complete()]


async def _shown(detail: Detail, batches: Sequence[Batch]) -> list[Event]:
    return await drain(sift(stream_of(batches), ToolFilter(detail)))


@pytest.mark.parametrize(
    ("detail", "seen"),
    [
        pytest.param(Detail.OFF, [], id="off"),
        pytest.param(
            Detail.NAMES,
            [
                OURS[0],
                ToolCallReady("s", ""),
                ToolCallProgress("s", "", 1, 2),
                ToolCallResult("s", "ok", "", 0.5),
                PROVIDERS[0],
                ToolCallReady("p", ""),
                ToolCallResult("p", "error", ""),
            ],
            id="names",
        ),
        pytest.param(
            Detail.ARGUMENTS,
            [
                OURS[0],
                OURS[2],
                ToolCallProgress("s", "", 1, 2),
                ToolCallResult("s", "ok", "", 0.5),
                PROVIDERS[0],
                PROVIDERS[1],
                ToolCallResult("p", "error", ""),
            ],
            id="arguments",
        ),
        pytest.param(Detail.RESULTS, [OURS[0], *OURS[2:], *PROVIDERS], id="results"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
async def test_each_level_shows_more(detail: Detail, seen: list[Event], together: bool) -> None:
    events = [*TEXT, *CLIENTS, *OURS, *PROVIDERS, *END]
    batches = [events] if together else [[event] for event in events]
    assert await _shown(detail, batches) == [*TEXT, *CLIENTS, *seen, *END]


async def test_no_batch_is_empty_when_all_in_it_is_hidden() -> None:
    shown = sift(stream_of([OURS, PROVIDERS, END]), ToolFilter(Detail.OFF))
    batches = [batch async for batch in shown]
    assert batches == [END]


async def test_what_is_shown_is_scrubbed_and_what_is_the_clients_is_not() -> None:
    secret = "Bearer abcdefghijklmnop"
    ours: list[Event] = [
        ToolCallStart("s", "look", "server"),
        ToolCallReady("s", f'{{"auth":"{secret}"}}'),
        ToolCallProgress("s", secret),
        ToolCallResult("s", "ok", secret),
    ]
    assert await _shown(Detail.RESULTS, [[*ours, *CLIENTS]]) == [
        ours[0],
        ToolCallReady("s", '{"auth":"[secret]"}'),
        ToolCallProgress("s", "[secret]"),
        ToolCallResult("s", "ok", "[secret]"),
        *CLIENTS,
    ]


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("sk-proj-Ab12Cd34Ef56Gh78", id="OpenAI"),
        pytest.param("sk-ant-api03-Ab12Cd34Ef56", id="Anthropic"),
        pytest.param("sk-abcdefghijklmnopqrstuvwxyz1", id="a key of small letters and a digit"),
        pytest.param("gsk_Ab12Cd34Ef56Gh78", id="Groq"),
        pytest.param("xai-Ab12Cd34Ef56Gh78", id="xAI"),
        pytest.param("sk_live_Ab12Cd34Ef56Gh78", id="Stripe"),
        pytest.param("ghp_16C7e42F292c6912E7710c838347Ae178B4a", id="GitHub"),
        pytest.param("github_pat_11ABCDEFG0abcdefghijkl", id="GitHub, fine-grained"),
        pytest.param("glpat-Ab12Cd34Ef56Gh78", id="GitLab"),
        pytest.param("xoxb-123456789012-Ab12Cd34", id="Slack"),
        pytest.param("AIzaSyA1234567890abcdefghij", id="Google"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", id="AWS"),
        pytest.param("Bearer abcdefghijklmnop==", id="a header"),
        pytest.param(JWT, id="a JWT"),
        pytest.param(PEM, id="a private key"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "key={}", '"{}"', "https://x.example/?k={}", "a\n{}"])
def test_secrets_are_scrubbed(secret: str, around: str) -> None:
    assert scrub(around.format(secret)) == around.format("[secret]")


def test_a_private_key_that_was_cut_hides_the_rest() -> None:
    assert scrub("see: -----BEGIN PRIVATE KEY-----\nMIIEvQ") == "see: [secret]"


@pytest.mark.parametrize(
    "text",
    [
        "skateboarding-tricks",
        "a task-oriented, risk-averse plan",
        "https://x.example/blog/sk-learn-for-beginners",
        "https://x.example/skyscrapers-of-the-world",
        "pkgconfig_is_a_long_name",
        "Bearer of bad news",
        "eyJ",
        "-----BEGIN CERTIFICATE-----",
        "rk",
        "",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert scrub(text) == text


def test_long_texts_are_cut_after_scrubbing() -> None:
    assert scrub("x" * LONGEST) == "x" * LONGEST
    assert scrub("x" * (LONGEST + 1)) == "x" * LONGEST + "…"
    across = "x " * (LONGEST // 2 - 4) + "sk-Ab12Cd34Ef56Gh78Ij90"
    assert scrub(across).endswith(" [secret]")


@pytest.mark.parametrize(
    "unit",
    ["eyJ-", "eyJaaaaaaaa.", "sk-", "sk-a", "Bearer ", "Bearer", " ", "-----BEGIN ", "A", "gh"],
)
def test_a_page_made_to_occupy_us_is_scrubbed_in_no_time(unit: str) -> None:
    """Any quadratic alternative takes minutes for this, with the event loop at a stand."""
    text = unit * (256 * 1024 // len(unit))
    assert len(scrub(text)) <= LONGEST + 1
