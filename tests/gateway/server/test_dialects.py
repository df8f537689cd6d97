from collections.abc import Mapping

import pytest

from gateway.errors import InvalidRequest
from gateway.records import Detail, Dialect
from gateway.server.dialects import choose, recognise
from gateway.server.settings import TierRow
from tests.samples import a_key


def _choose(
    headers: Mapping[str, str] | None = None,
    *,
    key: Dialect | None = None,
    tier: TierRow | None = None,
    model: Dialect | None = None,
    default: Dialect = Dialect.NAMED,
    detail: Detail = Detail.RESULTS,
) -> tuple[Dialect, Detail]:
    return choose(
        headers or {},
        key=a_key(notifications=key),
        tier=tier,
        model=model,
        default=default,
        detail=detail,
    )


def _sdk(language: str, version: str) -> dict[str, str]:
    return {"x-stainless-lang": language, "x-stainless-package-version": version}


@pytest.mark.parametrize(
    ("language", "version", "dialect"),
    [
        ("python", "1.0.0", Dialect.INLINE),
        ("python", "1.40.0", Dialect.INLINE),
        ("python", "1.97.0", Dialect.INLINE),
        ("python", "1.97.1", Dialect.INLINE),
        ("python", "1.97.2", None),
        ("python", "1.98.0", None),
        ("python", "2.0.0", None),
        ("python", "3.52.0", None),
        ("python", "1.100.0", None),
        ("python", "1.97", Dialect.INLINE),
        ("python", "1.97.1-beta.3", Dialect.INLINE),
        ("python", "1.97.1+local", Dialect.INLINE),
        ("js", "4.104.0", Dialect.INLINE),
        ("js", "5.10.2", Dialect.INLINE),
        ("js", "5.10.3", None),
        ("js", "5.11.0", None),
        ("js", "7.55.0", None),
        ("go", "1.0.0", None),
        ("", "1.0.0", None),
        ("python", "", None),
        ("python", "unknown", None),
        ("python", "v1.2.3", None),
        ("python", "1..2", None),
        ("python", "²", None),
        ("python", "1.²", None),
        ("python", "١.٢", None),
        ("python", "9" * 5000, None),
        ("python", "-1.0", None),
    ],
)
def test_sdks_that_cannot_take_a_named_frame_are_recognised(
    language: str, version: str, dialect: Dialect | None
) -> None:
    assert recognise(_sdk(language, version)) is dialect


def test_open_webui_is_recognised_by_its_headers_and_before_the_sdk_within_it() -> None:
    assert recognise({"x-openwebui-chat-id": "1"}) is Dialect.OPENWEBUI
    assert (
        recognise({"x-openwebui-user-name": "Ada"} | _sdk("python", "1.40.0")) is Dialect.OPENWEBUI
    )
    assert recognise({"user-agent": "curl/8"}) is None


OLD = _sdk("python", "1.40.0")


@pytest.mark.parametrize(
    ("given", "dialect"),
    [
        pytest.param({}, Dialect.NAMED, id="the default"),
        pytest.param({"default": Dialect.BARE}, Dialect.BARE, id="another default"),
        pytest.param({"headers": OLD}, Dialect.INLINE, id="the client before the default"),
        pytest.param(
            {"headers": OLD, "model": Dialect.BARE}, Dialect.BARE, id="the model before it"
        ),
        pytest.param(
            {"model": Dialect.BARE, "tier": TierRow(notifications=Dialect.OFF)},
            Dialect.OFF,
            id="the tier before the model",
        ),
        pytest.param(
            {"key": Dialect.INLINE, "tier": TierRow(notifications=Dialect.OFF)},
            Dialect.INLINE,
            id="the key before the tier",
        ),
        pytest.param(
            {"key": Dialect.INLINE, "headers": OLD | {"x-tool-notifications": "openwebui"}},
            Dialect.OPENWEBUI,
            id="the header before all",
        ),
        pytest.param(
            {"tier": TierRow(detail=Detail.NAMES), "model": Dialect.BARE},
            Dialect.BARE,
            id="a tier that says nothing of it",
        ),
        pytest.param(
            {"headers": {"x-tool-notifications": ""}}, Dialect.NAMED, id="an empty header"
        ),
    ],
)
def test_the_nearer_to_the_request_decides(given: dict[str, object], dialect: Dialect) -> None:
    assert _choose(**given)[0] is dialect  # type: ignore[arg-type]  # a case names the arguments


@pytest.mark.parametrize(
    ("header", "dialect", "detail"),
    [
        ("inline", Dialect.INLINE, Detail.RESULTS),
        ("INLINE", Dialect.INLINE, Detail.RESULTS),
        (" inline ", Dialect.INLINE, Detail.RESULTS),
        ("off", Dialect.OFF, Detail.RESULTS),
        ("detail=names", Dialect.NAMED, Detail.NAMES),
        ("inline; detail=names", Dialect.INLINE, Detail.NAMES),
        ("inline;detail=off", Dialect.INLINE, Detail.OFF),
        ("detail=arguments;bare", Dialect.BARE, Detail.ARGUMENTS),
        ("inline;", Dialect.INLINE, Detail.RESULTS),
    ],
)
def test_the_header_names_a_dialect_a_detail_or_both(
    header: str, dialect: Dialect, detail: Detail
) -> None:
    assert _choose({"x-tool-notifications": header}) == (dialect, detail)


@pytest.mark.parametrize(
    "header",
    ["loud", "inline, named", "detail", "detail=", "detail=all", "inline; size=3", "²"],
)
def test_a_header_that_says_nothing_known_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _choose({"x-tool-notifications": header})
    assert caught.value.message == (
        "The header X-Tool-Notifications takes one of named, inline, openwebui, bare, off, "
        "with '; detail=' and one of off, names, arguments, results."
    )
    assert caught.value.param == "X-Tool-Notifications"


@pytest.mark.parametrize(
    ("allowed", "tier", "asked", "seen"),
    [
        pytest.param(Detail.RESULTS, None, "names", Detail.NAMES, id="less may be asked for"),
        pytest.param(Detail.NAMES, None, "results", Detail.NAMES, id="more is not given"),
        pytest.param(
            Detail.RESULTS, Detail.ARGUMENTS, "results", Detail.ARGUMENTS, id="the tier's bound"
        ),
        pytest.param(
            Detail.NAMES, Detail.RESULTS, "results", Detail.RESULTS, id="a tier that may see more"
        ),
        pytest.param(Detail.RESULTS, Detail.OFF, None, Detail.OFF, id="a tier that sees nothing"),
    ],
)
def test_how_much_is_seen(
    allowed: Detail, tier: Detail | None, asked: str | None, seen: Detail
) -> None:
    headers = {} if asked is None else {"x-tool-notifications": f"detail={asked}"}
    assert _choose(headers, tier=TierRow(detail=tier), detail=allowed)[1] is seen
