"""The sections of audiofork.conf for servers: authorization, headers, TLS; who never sees them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from websockets.datastructures import Headers

from tests.e2e.fork_lab import Call, ForkLab
from tests.fakes.authority import Authority, server_context
from tests.fakes.fork_server import ForkServer, told

SECRET = "s3cr3t-t0ken"


pytestmark = pytest.mark.usefixtures("story")


@pytest.fixture
def secret_file(fork: ForkLab) -> Path:
    file = fork.lab.recordings / "token"
    file.touch(mode=0o600)
    file.write_text(f"{SECRET}\n")
    return file


def section(name: str, url: str, *rows: str) -> str:
    return "\n".join([f"[{name}]", f"url = {url}", *rows])


def asked(fork: ForkLab, call: Call, server: ForkServer, path: str) -> Headers:
    """The headers of a fork's request."""
    before = sum(one.path == f"/{path}" for one in server.received)
    name = fork.start(call.channel, server.url(path), "jD(in)")
    one = server.find(path, before + 1)
    server.wait("its start", lambda: bool(one.texts))
    fork.stop(call.channel, AudioForkID=name)
    assert server.closed(one) == 1000
    assert told(one.messages)[-1]["type"] == "stop"
    assert one.connection.request is not None
    return one.connection.request.headers


def test_a_token_goes_to_the_urls_of_its_section_only(fork: ForkLab, call: Call) -> None:
    other = section(
        "other", fork.server.url("calls/other"), "bearer = of-the-other", "header = X: 1"
    )
    fork.configure(
        "\n" + section("one", fork.server.url("calls"), f"bearer = {SECRET}") + "\n" + other
    )
    for path in ("calls", "calls/deeper", "calls?query=1"):
        before = fork.server.received[:]
        fork.start(call.channel, fork.server.url(path))
        fork.server.wait(path, lambda before=before: len(fork.server.received) > len(before))  # type: ignore[misc]
        request = fork.server.received[-1].connection.request
        assert request is not None
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
    for path in ("", "callsign", "elsewhere"):
        assert "Authorization" not in asked(fork, call, fork.server, path)
    headers = asked(fork, call, fork.server, "calls/other/x")
    assert (headers["Authorization"], headers["X"]) == ("Bearer of-the-other", "1"), "the longest"
    fork.stop(call.channel)


def test_user_password_and_headers(fork: ForkLab, call: Call, secret_file: Path) -> None:
    rows = ["user = pbx", f"password_file = {secret_file}", "header = X-Tenant: 42 \\; north",
            "header = x-empty-no:  a: b"]  # fmt: skip
    fork.configure("\n" + section("basic", fork.server.url("basic"), *rows))
    headers = asked(fork, call, fork.server, "basic")
    scheme, _, value = headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(value)) == ("Basic", f"pbx:{SECRET}".encode())
    assert headers["X-Tenant"] == "42 ; north"
    assert headers["X-Empty-No"] == "a: b"
    assert headers["Host"] == f"127.0.0.1:{fork.server.port}"


def test_a_new_token_in_its_file_is_read_at_reload(
    fork: ForkLab, call: Call, secret_file: Path
) -> None:
    conf = "\n" + section("file", fork.server.url("file"), f"bearer_file = {secret_file}")
    fork.configure(conf)
    assert asked(fork, call, fork.server, "file")["Authorization"] == f"Bearer {SECRET}"
    secret_file.write_text("another")
    fork.lab.pbx.cli("module reload app_audiofork.so")
    assert asked(fork, call, fork.server, "file")["Authorization"] == "Bearer another"


def test_a_long_token_fits(fork: ForkLab, call: Call, secret_file: Path) -> None:
    secret_file.write_text("x" * 4000)
    rows = [f"bearer_file = {secret_file}", f"header = X-More: {'y' * 1500}"]
    fork.configure("\n" + section("long", fork.server.url("long"), *rows))
    headers = asked(fork, call, fork.server, "long")
    assert len(headers["Authorization"]) == 4007
    assert len(headers["X-More"]) == 1500


def test_the_token_comes_again_with_each_connection(fork: ForkLab, call: Call) -> None:
    fork.configure("\n" + section("again", fork.server.url("again"), f"bearer = {SECRET}"))
    name = fork.start(call.channel, fork.server.url("again"), "jD(in)R(0)")
    fork.server.find("again").connection.close(1001)
    request = fork.server.find("again", 2).connection.request
    assert request is not None
    assert request.headers["Authorization"] == f"Bearer {SECRET}"
    fork.stop(call.channel, AudioForkID=name)


def test_no_secret_is_ever_shown(fork: ForkLab, call: Call) -> None:
    fork.configure("\n" + section("mute", fork.server.url("mute"), f"bearer = {SECRET}"))
    fork.lab.pbx.cli("core set debug 9 app_audiofork.so")
    name = fork.start(call.channel, fork.server.url("mute"), "jD(in)x(DIALPLAN)")
    fork.server.frames("mute", 5)
    shown = [
        fork.lab.pbx.cli(command)
        for command in ("audiofork list", f"audiofork show {name}", "audiofork stats",
                        f"core show channel {call.channel}", "core show settings",
                        "core show application AudioFork")
    ]  # fmt: skip
    fork.stop(call.channel, AudioForkID=name)
    events = [json.dumps(event) for event in fork.told(name)]
    fork.lab.pbx.cli("core set debug 0 app_audiofork.so")
    for text in (*shown, *events, fork.lab.pbx.log()):
        assert SECRET not in text
        assert base64.b64encode(f"pbx:{SECRET}".encode()).decode() not in text


def test_a_section_allows_nothing_by_itself(fork: ForkLab, call: Call) -> None:
    fork.configure("allow = ws://127.0.0.1:1/\n" + section("no", fork.server.url(), "bearer = x"))
    answer = fork.ami.action("AudioFork", Channel=call.channel, WsServer=fork.server.url())
    assert "not under any 'allow'" in answer["Message"]


BAD = {
    "no url": (["bearer = x"], "there is no url"),
    "bad url": (["url = http://h/"], "it must begin with ws"),
    "unknown": (["url = ws://h/", "token = s3cr3t-t0ken"], "token is not known here"),
    "two": (
        ["url = ws://h/", "bearer = s3cr3t-t0ken", "user = a", "password = b"],
        "either bearer",
    ),
    "half": (["url = ws://h/", "user = a"], "go together"),
    "colon": (["url = ws://h/", "user = a:b", "password = s3cr3t-t0ken"], "without a colon"),
    "empty": (["url = ws://h/", "bearer ="], "bearer is empty"),
    "control": (["url = ws://h/", "bearer = s3cr3t-t0ken\x01x"], "control character"),
    "host": (["url = ws://h/", "header = Host: other"], "a name that is not allowed"),
    "sec": (["url = ws://h/", "header = sec-websocket-key: x"], "a name that is not allowed"),
    "connection": (["url = ws://h/", "header = Connection: close"], "a name that is not allowed"),
    "authorization": (["url = ws://h/", "header = Authorization: x"], "a name that is not allowed"),
    "name": (["url = ws://h/", "header = X Y: x"], "a name that is not allowed"),
    "no name": (["url = ws://h/", "header = x"], "wants Name: value"),
    "no value": (["url = ws://h/", "header = X:"], "is empty"),
    "long": (["url = ws://h/", *[f"header = X: {'x' * 2000}"] * 3], "too long, with those before"),
    "file": (["url = ws://h/", "bearer_file = /none"], "cannot read /none"),
    "plain": (["url = ws://h/", "tls_server_name = h"], "want a wss:// url"),
    "name of host": (["url = wss://h/", "tls_server_name = h/h"], "a host's name"),
    "ca": (["url = wss://h/", "tls_ca_file = /none"], "cannot read /none"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_and_what_was_in_force_stays(
    fork: ForkLab, call: Call, name: str
) -> None:
    fork.configure("ring_ms = 1500\n" + section("good", fork.server.url("good"), "bearer = good"))
    before = len(fork.lab.pbx.log())
    rows, words = BAD[name]
    fork.configure("\n".join(["", f"[{name}]", *rows]))
    fork.wait(f"an error with {words}", lambda: words in fork.lab.pbx.log()[before:])
    told_of = fork.lab.pbx.log()[before:]
    assert "ERROR" in told_of
    assert SECRET not in told_of
    assert asked(fork, call, fork.server, "good")["Authorization"] == "Bearer good"


def test_what_others_could_read_is_warned_of(fork: ForkLab, secret_file: Path) -> None:
    secret_file.chmod(0o644)
    rows = ["bearer_file = " + str(secret_file)]
    fork.configure("\n" + section("open", "ws://speech.example.com/", *rows))
    fork.logged("WARNING", "[open]: what is sent to ws://speech.example.com/", "use wss://")
    fork.logged("WARNING", f"every user of this machine may read {secret_file}")


# -- TLS


def test_tls_of_a_section(fork: ForkLab, call: Call, authority: Authority) -> None:
    """Its own authority, a client certificate, and a name that is not the URL's."""
    certificate, key = map(str, authority.issue("client", "DNS:client"))
    names: list[str | None] = []
    context = server_context(authority.issue("inside", "DNS:speech.internal"), authority.ca)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with ForkServer(tls=context, host="localhost") as server:
        rows = [f"tls_ca_file = {authority.ca}", f"tls_cert_file = {certificate}",
                f"tls_key_file = {key}", "tls_server_name = speech.internal",
                f"bearer = {SECRET}"]  # fmt: skip
        fork.configure("\n" + section("tls", server.url("calls"), *rows))
        headers = asked(fork, call, server, "calls")
        assert headers["Authorization"] == f"Bearer {SECRET}"
        assert headers["Host"] == f"speech.internal:{server.port}"
        assert set(names) == {"speech.internal"}
        outside = fork.start(call.channel, server.url("elsewhere"), "D(in)")
        assert "certificate" in fork.ended(outside).reason


def test_the_name_is_verified(fork: ForkLab, call: Call, authority: Authority) -> None:
    context = server_context(authority.issue("outside", "DNS:localhost"))
    with ForkServer(tls=context, host="localhost") as server:
        rows = [f"tls_ca_file = {authority.ca}", "tls_server_name = speech.internal"]
        fork.configure("\n" + section("tls", server.url(), *rows))
        end = fork.ended(fork.start(call.channel, server.url(), "D(in)"))
        assert "ostname mismatch" in end.reason
        assert server.received == []
