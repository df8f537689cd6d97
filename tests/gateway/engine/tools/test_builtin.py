from collections.abc import Mapping

import pytest

from gateway.engine.tools.builtin import build
from gateway.engine.tools.tool import ToolContext

CONTEXT = ToolContext("request", "call", "ada@example.com", lambda *_: None)


@pytest.mark.parametrize(
    ("name", "config", "timeout"),
    [
        ("current_time", {}, 2.0),
        ("current_time", {"timezone": "Europe/Oslo", "timeout": 1}, 1.0),
        ("calculator", {}, 2.0),
        ("calculator", {"timeout": 0.5}, 0.5),
        ("web_search", {"url": "http://localhost:8080"}, 10.0),
        ("web_search", {"backend": "searxng", "url": "https://searx.example", "api_key": ""}, 10.0),
        ("web_search", {"backend": "brave", "api_key": "k", "timeout": 3}, 3.0),
        ("web_search", {"api_key": "k", "url": None, "count": 10}, 10.0),
        ("web_search", {"url": "http://[::1]:8080", "allow": ["searx.lan:80", "10.0.0.1"]}, 10.0),
        ("web_search", {"url": "http://a.test", "allow": "searx.lan, b.test:8080"}, 10.0),
    ],
)
def test_a_tool_is_built_under_its_name(
    name: str, config: Mapping[str, object], timeout: float
) -> None:
    tool = build(name, config)
    assert (tool.name, tool.timeout) == (name, timeout)
    assert tool.parameters["type"] == "object"
    assert tool.description.endswith(".")


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("web_serch", {}, "type: no built-in tool 'web_serch'; did you mean 'web_search'?"),
        ("weather", {}, "type: no built-in tool 'weather'; expected one of ['calculator', "),
        ("calculator", {"timout": 1}, "timout: no such field; did you mean 'timeout'?"),
        ("calculator", {"timeout": "1"}, "timeout: expected seconds, not '1'"),
        ("calculator", {"timeout": 0}, "timeout: expected more than 0 and at most 600 seconds"),
        ("calculator", {"timeout": float("nan")}, "timeout: expected more than 0"),
        ("current_time", {"timezone": "Osloo"}, "timezone: 'Osloo' is not a time zone"),
        ("current_time", {"timezone": 1}, "timezone: expected text, not int"),
        ("web_search", {}, "url: searxng needs its address, like 'http://localhost:8080'"),
        ("web_search", {"backend": "searx", "url": "http://a.test"}, "did you mean 'searxng'?"),
        ("web_search", {"backend": "google"}, "expected one of ['brave', 'searxng']"),
        ("web_search", {"backend": "brave"}, "api_key: brave needs a key"),
        ("web_search", {"api_key": "a\nb"}, "api_key: expected printable ASCII"),
        ("web_search", {"backend": "searxng", "url": "http://a", "api_key": "k"}, "takes no key"),
        ("web_search", {"url": "localhost:8080"}, "url: expected one like"),
        ("web_search", {"url": "http://u:p@a.test"}, "url: expected one like"),
        ("web_search", {"url": "http://a.test", "allow": 3}, "allow: expected a list of hosts"),
        ("web_search", {"url": "http://a.test", "allow": ["http://b"]}, "allow: 'http://b' is not"),
        ("web_search", {"url": "http://a.test", "count": 0}, "count: expected a whole number"),
    ],
)
def test_a_wrong_row_is_said_in_one_line(
    name: str, config: Mapping[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as failure:  # noqa: PT011  # the message is compared below
        build(name, config)
    assert message in str(failure.value)
    assert "\n" not in str(failure.value)
