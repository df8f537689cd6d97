import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.engine.tools.egress import (
    Egress,
    EgressFailed,
    EgressRefused,
    is_global,
    look_up,
)


class Names:
    """A name server whose answers a test decides; each question takes the next answer."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._answers:
            raise OSError("no such host")
        given = self._answers[host]
        return given.pop(0) if len(given) > 1 else given[0]


class Canary:
    """A private server that nobody may connect to."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def meet(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    canary = Canary()
    server = await asyncio.start_server(canary.meet, "127.0.0.1", 0)
    canary.port = server.sockets[0].getsockname()[1]
    yield canary
    server.close()
    await server.wait_closed()
    assert canary.connections == 0


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers on 127.0.0.1 and gives their ports."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> int:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        servers.append(server)
        assert server.port
        return server.port

    yield start
    for server in servers:
        await server.close()


async def test_a_listed_private_place_answers(serve: Serve) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"agent": request.headers["User-Agent"], "q": request.query["q"]})

    port = await serve(hello)
    egress = Egress([f"127.0.0.1:{port}"])
    answer = await egress.fetch(f"http://127.0.0.1:{port}/x?a=1", query={"q": "a b&c"})
    await egress.close()
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.json() == {"agent": "Sluice", "q": "a b&c"}


async def test_json_can_be_posted(serve: Serve) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.json_response([request.content_type, await request.json()])

    port = await serve(echo)
    egress = Egress([f"127.0.0.1:{port}"])
    answer = await egress.post(f"http://127.0.0.1:{port}/", {"a": [1]})
    await egress.close()
    assert answer.json() == ["application/json", {"a": [1]}]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%1",
        "fec0::1",
        "ff02::1",
        "",
        "localhost",
        "0177.0.0.1",
        "2130706433",
    ],
)
def test_an_address_is_not_public(address: str) -> None:
    assert not is_global(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "100.63.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
        "2001:200::1",
    ],
)
def test_an_address_is_public(address: str) -> None:
    assert is_global(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.1%2f.example.com/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:ffff:127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[fe80::1%25lo]/",
        "http://0/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://public.test./",
        "http://user@public.test/",
        "http://user:pass@public.test/",
        "http://public.test@127.0.0.1/",
        "http://public.test\\@127.0.0.1/",
        "http://public.test#@127.0.0.1:x/",
        "http://127.0.0.1\t/",
        "http://127.0.0.1\r\nHost: public.test/",
        " http://127.0.0.1/",
        "http://public.test:22/",
        "http://public.test:8080/",
        "http://public.test:0/",
        "http://public.test:99999/",
        "https://public.test:-1/",
        "http:///path",
        "http:127.0.0.1",
        "//127.0.0.1/",
        "127.0.0.1",
        "",
        "file:///etc/passwd",
        "ftp://public.test/",
        "gopher://127.0.0.1:6379/_INFO",
        "unix:///var/run/docker.sock",
        "ws://public.test/",
        "data:text/plain,hello",
        "http://" + "a" * 300 + ".test/",
        "http://public.test/" + "a" * 5000,
    ],
    ids=lambda url: url[:60],
)
async def test_a_url_is_refused_before_any_look_up(url: str) -> None:
    names = Names(public_test=[["127.0.0.1"]])
    egress = Egress(lookup=names, timeout=2)
    # What names a public host is refused by what it resolves to, everything else much earlier.
    with pytest.raises(EgressRefused):
        await egress.fetch(url)
    with pytest.raises(EgressRefused):
        await egress.post(url, {})
    await egress.close()
    assert set(names.asked) <= {"public.test"}


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["93.184.215.14", "127.0.0.1"],
        ["127.0.0.1", "93.184.215.14"],
        ["2606:4700::1111", "::ffff:127.0.0.1"],
        ["93.184.215.14", "169.254.169.254"],
        ["::1"],
    ],
    ids=", ".join,
)
async def test_one_private_address_refuses_the_name(answers: Sequence[str], canary: Canary) -> None:
    egress = Egress([f"other.test:{canary.port}"], lookup=Names(evil_test=[answers]))
    with pytest.raises(EgressRefused, match=r"evil.test does not have a public address") as refusal:
        await egress.fetch("http://evil.test/")
    await egress.close()
    assert not any(address in str(refusal.value) for address in answers)


async def test_localhost_of_the_system_is_refused() -> None:
    egress = Egress()
    with pytest.raises(EgressRefused):
        await egress.fetch("http://localhost/")
    await egress.close()
    assert "127.0.0.1" in await look_up("localhost", 80)


async def test_a_name_that_changes_between_check_and_use_is_asked_only_once() -> None:
    connected: list[object] = []

    def no_socket(info: tuple[object, ...]) -> socket.socket:
        connected.append(info[4])
        raise OSError("no network in this test")

    names = Names(rebind_test=[["93.184.215.14"], ["127.0.0.1"]])
    egress = Egress(lookup=names, sockets=no_socket)
    with pytest.raises(EgressFailed, match="cannot be reached"):
        await egress.fetch("http://rebind.test/")
    assert names.asked == ["rebind.test"]
    assert connected == [("93.184.215.14", 80)]
    # The next request asks again, and is told the private address this time.
    with pytest.raises(EgressRefused):
        await egress.fetch("http://rebind.test/")
    await egress.close()
    assert connected == [("93.184.215.14", 80)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1:{canary}/",
        "//127.0.0.1:{canary}/",
        "http://evil.test/",
        "http://[::ffff:127.0.0.1]/",
        "http://0x7f000001/",
        "http://169.254.169.254/",
        "http://user@evil.test/",
        "file:///etc/passwd",
        "http://evil.test\\@x/",
    ],
)
async def test_a_redirect_is_checked_like_a_first_request(
    status: int, location: str, serve: Serve, canary: Canary
) -> None:
    async def away(_: web.Request) -> web.Response:
        return web.Response(
            status=status, headers={"Location": location.format(canary=canary.port)}
        )

    port = await serve(away)
    names = Names(front_test=[["127.0.0.1"]], evil_test=[["127.0.0.1"]])
    egress = Egress([f"front.test:{port}"], lookup=names)
    with pytest.raises(EgressRefused):
        await egress.fetch(f"http://front.test:{port}/")
    await egress.close()


async def test_a_redirect_does_not_benefit_from_the_list(serve: Serve, canary: Canary) -> None:
    """A page on the Internet cannot reach an internal service that is listed for a tool."""

    async def away(_: web.Request) -> web.Response:
        location = f"http://internal.test:{canary.port}/"
        return web.Response(status=302, headers={"Location": location})

    port = await serve(away)

    class Detour(socket.socket):
        """Stands in for the Internet: what is meant for a public address arrives at our server."""

        def connect(self, address: tuple[str, int]) -> None:
            assert address == ("93.184.215.14", 80)
            super().connect(("127.0.0.1", port))

    names = Names(public_test=[["93.184.215.14"]], internal_test=[["127.0.0.1"]])
    egress = Egress(
        [f"internal.test:{canary.port}"],
        lookup=names,
        sockets=lambda info: Detour(info[0], info[1], info[2]),
    )
    with pytest.raises(EgressRefused, match=r"redirect to internal.test is not allowed"):
        await egress.fetch("http://public.test/")
    await egress.close()
    assert names.asked == ["public.test"]


async def test_redirects_are_followed_three_times(serve: Serve) -> None:
    async def count(request: web.Request) -> web.Response:
        number = int(request.match_info["path"] or 0)
        if number == 0:
            return web.json_response("there")
        return web.Response(status=302, headers={"Location": f"/{number - 1}"})

    port = await serve(count)
    egress = Egress([f"127.0.0.1:{port}"])
    answer = await egress.fetch(f"http://127.0.0.1:{port}/3")
    assert (answer.json(), answer.url) == ("there", f"http://127.0.0.1:{port}/0")
    with pytest.raises(EgressFailed, match="more than 3 times"):
        await egress.fetch(f"http://127.0.0.1:{port}/4")
    await egress.close()


async def test_headers_stay_with_the_origin_they_were_for(serve: Serve) -> None:
    seen: list[str | None] = []

    async def second(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-Subscription-Token"))
        return web.json_response({})

    other = await serve(second)

    async def first(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-Subscription-Token"))
        return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{other}/"})

    port = await serve(first)
    egress = Egress([f"127.0.0.1:{port}", f"127.0.0.1:{other}"])
    await egress.fetch(f"http://127.0.0.1:{port}/", headers={"X-Subscription-Token": "secret"})
    await egress.close()
    assert seen == ["secret", None]


async def test_a_post_is_not_redirected(serve: Serve) -> None:
    async def away(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    port = await serve(away)
    egress = Egress([f"127.0.0.1:{port}"])
    with pytest.raises(EgressRefused, match="may not be redirected"):
        await egress.post(f"http://127.0.0.1:{port}/", {})
    await egress.close()


async def test_cookies_are_not_kept(serve: Serve) -> None:
    cookies: list[dict[str, str]] = []

    async def give(request: web.Request) -> web.Response:
        cookies.append(dict(request.cookies))
        response = web.json_response({})
        response.set_cookie("id", "1")
        return response

    port = await serve(give)
    egress = Egress([f"127.0.0.1:{port}"])
    for _ in range(2):
        await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()
    assert cookies == [{}, {}]


async def test_a_proxy_of_the_environment_is_not_used(
    serve: Serve, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.json_response("direct")

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    port = await serve(hello)
    egress = Egress([f"127.0.0.1:{port}"])
    assert (await egress.fetch(f"http://127.0.0.1:{port}/")).json() == "direct"
    await egress.close()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip bomb"])
async def test_an_answer_is_cut_off_at_its_decoded_size(packed: bool, serve: Serve) -> None:
    async def much(_: web.Request) -> web.Response:
        body = b"0" * 50_000_000
        headers = {"Content-Type": "text/plain"}
        if packed:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        return web.Response(body=body, headers=headers)

    port = await serve(much)
    egress = Egress([f"127.0.0.1:{port}"])
    with pytest.raises(EgressFailed, match="larger than 2097152 bytes"):
        await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()


async def test_a_full_size_answer_is_whole(serve: Serve) -> None:
    async def much(_: web.Request) -> web.Response:
        return web.Response(body=b"0" * 2 * 1024 * 1024, content_type="text/plain")

    port = await serve(much)
    egress = Egress([f"127.0.0.1:{port}"])
    answer = await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()
    assert len(answer.body) == 2 * 1024 * 1024


@pytest.mark.parametrize(
    "kind", ["image/png", "application/octet-stream", "text/event-stream", "audio/mpeg"]
)
async def test_other_content_types_are_not_read(kind: str, serve: Serve) -> None:
    async def send(_: web.Request) -> web.Response:
        return web.Response(body=b"x", content_type=kind)

    port = await serve(send)
    egress = Egress([f"127.0.0.1:{port}"])
    with pytest.raises(EgressFailed, match=kind):
        await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()


async def test_the_status_of_an_error_is_told(serve: Serve) -> None:
    async def fail(_: web.Request) -> web.Response:
        return web.json_response({"why": "busy"}, status=503)

    port = await serve(fail)
    egress = Egress([f"127.0.0.1:{port}"])
    answer = await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()
    assert (answer.status, answer.json()) == (503, {"why": "busy"})


@pytest.mark.parametrize("stall", ["headers", "body", "redirects"])
async def test_the_time_limit_is_for_everything_together(stall: str, serve: Serve) -> None:
    async def dawdle(request: web.Request) -> web.StreamResponse:
        if stall == "headers":
            await asyncio.sleep(30)
        if stall == "redirects":
            await asyncio.sleep(0.15)
            return web.Response(status=302, headers={"Location": "/next"})
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.05)

    port = await serve(dawdle)
    egress = Egress([f"127.0.0.1:{port}"], timeout=0.3)
    with pytest.raises(EgressFailed, match=r"did not answer within 0.3 s"):
        await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()


async def test_garbage_is_a_failure_in_words() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    egress = Egress([f"127.0.0.1:{port}"])
    with pytest.raises(EgressFailed, match=r"127.0.0.1"):
        await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()
    server.close()


async def test_an_unknown_name_and_a_closed_port_are_told_apart() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    egress = Egress([f"127.0.0.1:{port}"], lookup=Names())
    with pytest.raises(EgressFailed, match=r"nowhere.test is not known"):
        await egress.fetch("http://nowhere.test/")
    with pytest.raises(EgressFailed, match=r"127.0.0.1 cannot be reached"):
        await egress.fetch(f"http://127.0.0.1:{port}/")
    await egress.close()


@pytest.mark.parametrize(
    ("entry", "url", "passes"),
    [
        ("searx.lan", "http://searx.lan/", True),
        ("searx.lan", "https://searx.lan/", True),
        ("searx.lan", "http://searx.lan:8080/", False),
        ("SEARX.lan:8080", "http://searx.LAN:8080/", True),
        ("searx.lan:8080", "http://searx.lan/", False),
        ("searx.lan", "http://other.searx.lan/", False),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("127.0.0.1", "http://127.0.0.2/", False),
        ("127.0.0.1:80", "http://2130706433/", False),
    ],
)
async def test_the_list_is_exact(entry: str, url: str, passes: bool) -> None:
    def no_socket(_: object) -> socket.socket:
        raise OSError("no network in this test")

    private = [["10.0.0.1"]]
    names = Names(searx_lan=private, other_searx_lan=private)
    egress = Egress([entry], lookup=names, sockets=no_socket)
    with pytest.raises(EgressFailed if passes else EgressRefused):
        await egress.fetch(url)
    await egress.close()


@pytest.mark.parametrize(
    "entry",
    ["", "http://searx.lan", "a b", "searx.lan:99999", "searx.lan:x", "127.1", "a@b", "*.x"],
)
def test_a_wrong_entry_of_the_list_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=r"allow: .* is not a host"):
        Egress([entry])
